//! SQL, one file per table.
//!
//! Free functions that take a connection and know nothing of HTTP. Locks are taken in one order:
//! users, then sessions, then session_records, each in a statement of its own.

pub mod session_records;
pub mod sessions;
pub mod users;

use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgPool};

/// How long a request waits for a connection before it answers that there is none.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_CONNECTIONS: u32 = 16;

/// Connections for the service; none is made before it is needed.
#[must_use]
pub fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options.application_name("portcullis"))
}

/// Brings the schema up to date. Any number of replicas may do so at once: an advisory lock makes
/// them take turns.
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), MigrateError> {
    let mut migrator = sqlx::migrate!();
    // An older replica may restart beside a newer schema: within a release they only add.
    migrator.set_ignore_missing(true);
    // A connection of its own: the lock belongs to it, and no pooler or time-out is in its way.
    let options = options.clone().options([("client_min_messages", "warning")]);
    let mut connection = options.connect().await?;
    migrator.run_direct(&mut connection).await?;
    Ok(connection.close().await?)
}
