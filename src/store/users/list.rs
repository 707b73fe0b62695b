//! Which accounts there are.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{Role, User};
use crate::page::Paging;

/// Accounts that are looked at one by one before the index is asked, which gives all that match before it
/// is known which are the newest. Of a term that so many accounts hardly have, that is usually not much.
const LOOKED_AT: i64 = 5000;

/// Which accounts to list.
#[derive(Debug)]
pub struct Filter<'a> {
    /// A literal part of username, email address or name, without case.
    pub q: Option<&'a str>,
    /// Only accounts with this role.
    pub role: Option<Role>,
    /// Only accounts that may, or may not, log in.
    pub is_active: Option<bool>,
}

/// A page of accounts, the newest first.
pub async fn list(
    connection: &mut PgConnection,
    filter: &Filter<'_>,
    paging: &Paging,
) -> sqlx::Result<Vec<User>> {
    let Some(term) = filter.q.filter(|term| !term.is_empty()) else {
        return list_all(connection, filter, paging).await;
    };
    let newest = search_newest(connection, term, filter, paging).await?;
    let is_full = i64::try_from(newest.len()).is_ok_and(|found| found > paging.limit);
    if is_full || !has_more(connection, filter, paging).await? {
        return Ok(newest);
    }
    search_index(connection, term, filter, paging).await
}

async fn list_all(
    connection: &mut PgConnection,
    filter: &Filter<'_>,
    paging: &Paging,
) -> sqlx::Result<Vec<User>> {
    query_user!(
        "select",
        "from users
         where ($1::text is null or role = $1)
             and ($2::bool is null or is_active = $2)
             and id < $3
         order by id desc
         limit $4",
        filter.role as _,
        filter.is_active,
        paging.before,
        paging.limit + 1,
    )
    .fetch_all(connection)
    .await
}

/// Those of a page that are among the newest accounts.
async fn search_newest(
    connection: &mut PgConnection,
    term: &str,
    filter: &Filter<'_>,
    paging: &Paging,
) -> sqlx::Result<Vec<User>> {
    query_user!(
        "select",
        r#"from (
               select * from users
               where ($2::text is null or role = $2)
                 and ($3::bool is null or is_active = $3)
                 and id < $4
               order by id desc
               limit $6
           ) newest
           where position(lower($1 collate "und-x-icu") in search_text(username, email, name)) > 0
           order by id desc
           limit $5"#,
        term,
        filter.role as _,
        filter.is_active,
        paging.before,
        paging.limit + 1,
        LOOKED_AT,
    )
    .fetch_all(connection)
    .await
}

/// Whether there are accounts beyond the newest.
async fn has_more(
    connection: &mut PgConnection,
    filter: &Filter<'_>,
    paging: &Paging,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (
             select from users
             where ($1::text is null or role = $1)
                 and ($2::bool is null or is_active = $2)
                 and id < $3
             order by id desc
             offset $4
         ) as "has_more!""#,
        filter.role as _,
        filter.is_active,
        paging.before,
        LOOKED_AT,
    )
    .fetch_one(connection)
    .await
}

/// A page of what `users_search_idx` finds.
async fn search_index(
    connection: &mut PgConnection,
    term: &str,
    filter: &Filter<'_>,
    paging: &Paging,
) -> sqlx::Result<Vec<User>> {
    // "offset 0" keeps the planner from walking through the accounts by id after all.
    query_user!(
        "select",
        r#"from (
               select * from users
               where search_parts(search_text(username, email, name), 1, 3) collate "C"
                   @> search_parts(
                       lower($1 collate "und-x-icu"), least(char_length($1), 3), 3
                   ) collate "C"
                 and position(lower($1 collate "und-x-icu") in search_text(username, email, name)) > 0
               offset 0
           ) found
           where ($2::text is null or role = $2)
             and ($3::bool is null or is_active = $3)
             and id < $4
           order by id desc
           limit $5"#,
        term,
        filter.role as _,
        filter.is_active,
        paging.before,
        paging.limit + 1,
    )
    .fetch_all(connection)
    .await
}

/// A stretch of all accounts, by their ids.
#[derive(Debug)]
pub struct Stretch {
    /// The last one of it.
    pub last: Uuid,
    /// Those with more live sessions or more valid API tokens than they may have.
    pub beyond: Vec<Uuid>,
}

/// The next stretch after an account; `None` after the last one. Each account costs two look-ups in an index.
pub async fn find_beyond(
    db: impl PgExecutor<'_>,
    after: Uuid,
    sessions: i64,
    api_tokens: i64,
    limit: i64,
) -> sqlx::Result<Option<Stretch>> {
    let stretch = sqlx::query!(
        r#"select (array_agg(id order by id desc))[1] as last,
             coalesce(array_agg(id) filter (where
                 exists (
                     select from sessions where user_id = next.id and expires_at > now() offset $2
                 )
                 or exists (
                     select from api_tokens
                     where user_id = next.id and (expires_at is null or expires_at > now()) offset $3
                 )
             ), '{}') as "beyond!"
         from (select id from users where id > $1 order by id limit $4) next"#,
        after,
        sessions,
        api_tokens,
        limit,
    )
    .fetch_one(db)
    .await?;
    Ok(stretch.last.map(|last| Stretch { last, beyond: stretch.beyond }))
}
