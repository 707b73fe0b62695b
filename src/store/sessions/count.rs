//! How many sessions there are.

use sqlx::PgExecutor;

/// So many sessions are counted one by one; of more, PostgreSQL's own estimate is taken.
const COUNTED: i64 = 10_000;

/// How many sessions stand. Of many it is about how many, with those that are due to be swept.
///
/// # Errors
/// Those of the database.
pub async fn count(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select case
               when counted <= $1::bigint then counted
               else greatest(counted, (select reltuples::bigint from pg_class where oid = 'sessions'::regclass))
           end as "count!"
           from (
               select count(*) as counted
               from (select from sessions where expires_at > now() limit $1::bigint + 1) as first
           ) as those"#,
        COUNTED,
    )
    .fetch_one(db)
    .await
}
