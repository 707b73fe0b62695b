//! Lists, a page at a time: the newest first, and a cursor that stays right while rows come and go.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::error::{Error, Result};

const DEFAULT: i64 = 50;
const MAX: i64 = 100;

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// How many at the most.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// One page of a list, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// What to give as `cursor` for the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// A page that was asked for and may be had.
#[derive(Debug)]
pub struct Paging {
    /// How many rows are on it. A query fetches one more, which tells whether there is another page.
    pub limit: i64,
    /// Only rows with a smaller id than this; on the first page, the highest that there can be.
    pub before: Uuid,
}

impl PageQuery {
    /// Checks what was asked for.
    ///
    /// # Errors
    /// `ValidationFailed` for a limit beyond 1 to 100 or a cursor that is none.
    pub fn check(&self) -> Result<Paging> {
        let limit = self.limit.unwrap_or(DEFAULT);
        if !(1..=MAX).contains(&limit) {
            return Err(Error::invalid("limit", "invalid", "must be from 1 to 100"));
        }
        let read = |text: &String| {
            let id = URL_SAFE_NO_PAD.decode(text).ok().and_then(|id| Uuid::from_slice(&id).ok());
            id.ok_or(Error::invalid("cursor", "invalid", "must be a next_cursor of this list"))
        };
        let before = self.cursor.as_ref().map_or(Ok(Uuid::max()), read)?;
        Ok(Paging { limit, before })
    }
}

impl Paging {
    /// The page that these rows are, of which there may be one more than belongs on it.
    pub fn page<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> Uuid) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|last| URL_SAFE_NO_PAD.encode(id(last)));
        Page { items, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(limit: Option<i64>, cursor: &str) -> Result<Paging> {
        PageQuery { limit, cursor: Some(cursor.to_owned()) }.check()
    }

    proptest! {
        #[test]
        fn a_cursor_leads_to_the_row_that_it_was_made_of(ids in prop::collection::vec(any::<u128>(), 1..9), limit in 1..6i64) {
            let paging = Paging { limit, before: Uuid::max() };
            let rows: Vec<Uuid> = ids.iter().copied().map(Uuid::from_u128).collect();
            let page = paging.page(rows.clone(), |id| *id);
            prop_assert_eq!(page.next_cursor.is_some(), rows.len() > page.items.len());
            if let Some(cursor) = page.next_cursor {
                prop_assert_eq!(Some(check(None, &cursor).unwrap().before), page.items.last().copied());
            }
        }

        #[test]
        fn what_is_no_cursor_is_refused(
            text in prop_oneof![
                any::<String>(),
                any::<u128>().prop_map(|id| URL_SAFE_NO_PAD.encode(Uuid::from_u128(id))),
            ],
            limit in -5..120i64,
        ) {
            let id = URL_SAFE_NO_PAD.decode(&text).ok().and_then(|id| Uuid::from_slice(&id).ok());
            let read = check(Some(limit), &text).ok().map(|paging| (paging.limit, paging.before));
            let expected = id.filter(|_| (1..=100).contains(&limit)).map(|id| (limit, id));
            prop_assert_eq!(read, expected);
        }
    }
}
