//! SQL, one file per table.
//!
//! Free functions that take a connection and know nothing of HTTP. Locks are taken in one order:
//! users, then sessions, then session_records, each in a statement of its own.

pub mod api_tokens;
pub mod audit_events;
pub mod diagnosis;
pub mod known_devices;
pub mod one_time_tokens;
pub mod outbox;
pub mod registrations;
pub mod session_records;
pub mod sessions;
pub mod throttles;
pub mod users;

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgExecutor, PgPool, Postgres, Transaction,
};

use crate::config::Config;

/// How long a statement waits for a row that another one holds: those that hold one are quick.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection is taken for alive after it was used.
const ALIVE_FOR: Duration = Duration::from_secs(1);

/// A transaction. It is begun in a task of its own: a request that goes away while `BEGIN` is under
/// way would otherwise leave the connection in a transaction that nobody ends (sqlx 0.8 counts it
/// only when the answer is there).
///
/// # Errors
/// When the database cannot be reached.
pub async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    #[expect(clippy::disallowed_methods, reason = "this is the place that may")]
    let begin = async move { pool.begin().await };
    tokio::spawn(begin).await.map_err(|_| sqlx::Error::WorkerCrashed)?
}

/// Connections for the service; none is made before it is needed.
///
/// A statement that takes longer than its time-out is given up, and one that waits for a lock
/// much sooner: a request that has ended must not hold a connection, nor one locked row all of them.
#[must_use]
pub fn pool(options: PgConnectOptions, config: &Config) -> PgPool {
    let statement_timeout = config.database_statement_timeout.as_millis();
    let session = format!(
        "set statement_timeout = {}; set lock_timeout = {};
         set idle_in_transaction_session_timeout = {}",
        statement_timeout,
        LOCK_TIMEOUT.as_millis(),
        statement_timeout,
    );
    PgPoolOptions::new()
        .max_connections(config.database_connections)
        .acquire_timeout(config.database_acquire_timeout)
        // Asking a connection whether it is alive costs each request a second round trip; one that was in
        // use a moment ago is.
        .test_before_acquire(false)
        .before_acquire(|connection, usage| {
            Box::pin(async move {
                if usage.idle_for > ALIVE_FOR {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move { connection.execute(&*session).await.map(drop) })
        })
        .connect_lazy_with(options.application_name("portcullis"))
}

/// Whether the database answers.
///
/// # Errors
/// When it does not.
pub async fn ping(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query_scalar!(r#"select 1 as "one!""#).fetch_one(db).await.map(drop)
}

/// Brings the schema up to date. Any number of replicas may do so at once: an advisory lock makes
/// them take turns.
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), MigrateError> {
    let migrator = migrator();
    // A connection of its own, since the lock belongs to it; a pooler must not hand it on between
    // transactions.
    let mut connection = options.connect().await?;
    let session =
        "set client_min_messages = warning; set statement_timeout = 0; set lock_timeout = 0";
    sqlx::raw_sql(session).execute(&mut connection).await?;
    migrator.run_direct(&mut connection).await?;
    Ok(connection.close().await?)
}

/// The migrations that this binary has.
#[must_use]
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    // An older replica may restart beside a newer schema: within a release they only add.
    migrator.set_ignore_missing(true);
    migrator
}

fn interval(duration: Duration) -> sqlx::Result<PgInterval> {
    PgInterval::try_from(duration).map_err(sqlx::Error::Encode)
}
