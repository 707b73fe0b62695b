//! How sessions that have expired go.

use sqlx::PgConnection;

use crate::store::session_records;

/// Deletes up to `limit` expired sessions and their records, and returns how many. Rows that
/// another replica sweeps, or that a request holds, are skipped.
pub async fn sweep(connection: &mut PgConnection, limit: i64) -> sqlx::Result<usize> {
    let ended = sqlx::query_scalar!(
        "delete from sessions where id in (
             select id from sessions where expires_at < now()
             order by expires_at
             limit $1
             for update skip locked
         ) returning record_id",
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    session_records::delete(connection, &ended).await?;
    Ok(ended.len())
}
