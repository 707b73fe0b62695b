//! What requests begin with: who is calling, and whether the database answers.

mod questions;

use self::questions::Questions;
use crate::error::Result;
use crate::metrics::Panics;
use crate::store;
use crate::store::api_tokens;
use crate::store::reserve::Reserve;
use crate::store::sessions::{self, Use, Wanted};
use crate::supervise::Task;

/// Statements for sessions at a time: with more of them each finds fewer, and all together cost more.
const AT_ONCE: usize = 2;

/// Where it is looked up.
#[derive(Debug)]
pub struct Lookups {
    sessions: Questions<Wanted, Option<sessions::Live>>,
    api_tokens: Questions<Vec<u8>, Option<api_tokens::Live>>,
    pings: Questions<(), ()>,
}

impl Lookups {
    /// Lookups by connections that are kept for them.
    #[must_use]
    pub fn new(reserve: &Reserve, by: Use, panics: &Panics) -> Self {
        let of = |task| (task, panics);
        Self {
            sessions: Questions::new(
                of(Task::SessionLookups),
                reserve,
                AT_ONCE,
                move |db, wanted| Box::pin(sessions::find_live(db, wanted, by)),
            ),
            api_tokens: Questions::new(of(Task::ApiTokenLookups), reserve, 1, |db, hashes| {
                Box::pin(api_tokens::find_live(db, hashes))
            }),
            pings: Questions::new(of(Task::Pings), reserve, 1, |db, asked| {
                Box::pin(async { store::ping(db).await.map(|()| vec![(); asked.len()]) })
            }),
        }
    }

    /// The session that stands behind a record. One that was ended before this is called is not found.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find_session(&self, wanted: Wanted) -> Result<Option<sessions::Live>> {
        self.sessions.ask(wanted).await
    }

    /// The API token that stands with this hash. One that was ended before this is called is not found.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find_api_token(&self, hash: Vec<u8>) -> Result<Option<api_tokens::Live>> {
        self.api_tokens.ask(hash).await
    }

    /// Whether the database answers what requests begin with.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        self.pings.ask(()).await
    }
}
