//! The records of sessions, by the hashes of their secrets.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::interval;

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

/// Has the record `old` find the session of the record `new`, and expire after `grace`. So do the records that `old`
/// took the place of, until they expire.
pub async fn replace(
    connection: &mut PgConnection,
    old: &str,
    new: &str,
    grace: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update session_records
         set renewed_as = $2,
             expiry_date = case when id = $1 then now() + $3::interval else expiry_date end
         where id = $1 or (renewed_as = $1 and expiry_date > now())",
        old,
        new,
        interval(grace)?,
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Deletes the records that the record of a session took the place of.
pub async fn delete_old(connection: &mut PgConnection, session_id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from session_records
         where renewed_as = (select record_id from sessions where id = $1)",
        session_id,
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Deletes the records with these (hashed) ids, and those that they took the place of.
pub async fn delete(connection: &mut PgConnection, ids: &[String]) -> sqlx::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!("delete from session_records where id = any($1) or renewed_as = any($1)", ids)
        .execute(connection)
        .await
        .map(drop)
}
