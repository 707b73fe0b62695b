//! The rows of tower-sessions' store. The store itself writes them; here they end.

use sqlx::PgConnection;

/// Deletes the records with these (hashed) ids.
pub async fn delete(connection: &mut PgConnection, ids: &[String]) -> sqlx::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!("delete from session_records where id = any($1)", ids)
        .execute(connection)
        .await
        .map(drop)
}
