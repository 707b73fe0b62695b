//! The records of sessions, by the hashes of their secrets.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

/// Inserts a record under a new (hashed) id. Its data are for logins in progress.
pub async fn insert(db: impl PgExecutor<'_>, id: &str, expiry: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into session_records (id, data, expiry_date) values ($1, '', $2)",
        id,
        expiry,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Deletes a record that no session uses.
pub async fn discard(db: impl PgExecutor<'_>, id: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from session_records where id = $1", id).execute(db).await.map(drop)
}

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
