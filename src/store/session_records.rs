//! The rows of tower-sessions' store. The store itself writes them; here they end.

use sqlx::{PgConnection, PgExecutor};

/// Deletes the records with these (hashed) ids.
pub async fn delete(connection: &mut PgConnection, ids: &[String]) -> sqlx::Result<()> {
    sqlx::query!("delete from session_records where id = any($1)", ids)
        .execute(connection)
        .await
        .map(drop)
}

/// Deletes up to `limit` expired records that no session holds, and returns how many.
///
/// Those were made for a login that was then refused. Rows that another replica sweeps are skipped.
pub async fn sweep(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<u64> {
    sqlx::query!(
        "delete from session_records where id in (
             select r.id from session_records r
             where r.expiry_date < now()
                 and not exists (select from sessions s where s.record_id = r.id)
             order by r.expiry_date
             limit $1
             for update of r skip locked
         )",
        limit,
    )
    .execute(db)
    .await
    .map(|done| done.rows_affected())
}
