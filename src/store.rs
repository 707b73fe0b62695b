//! SQL, one file per table.
//!
//! Free functions that take a connection and know nothing of HTTP. Locks are taken in one order:
//! users, then sessions, then session_records, each in a statement of its own.

pub mod anonymizations;
pub mod api_tokens;
pub mod audit_events;
pub mod credentials;
pub mod diagnosis;
pub mod expired;
pub mod former_usernames;
pub mod known_devices;
mod migration;
pub mod one_time_tokens;
pub mod outbox;
pub mod ownership;
pub mod registrations;
pub mod reserve;
pub mod session_records;
pub mod sessions;
pub mod throttles;
pub mod users;

use std::time::Duration;

use log::LevelFilter;
use sqlx::pool::PoolConnection;
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgExecutor, PgPool, Postgres, Transaction};
use tokio::time::timeout;

pub use self::migration::{migrate, migrator};
use crate::config::Config;

/// How long a statement waits for a row that another one holds: those that hold one are quick.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it may take to find or to write down what requests ask: it has waited for a lock by then.
const QUICK: Duration = Duration::from_secs(3);

/// How long a connection is taken for alive after it was used.
const ALIVE_FOR: Duration = Duration::from_secs(1);
/// How soon one that was not must answer.
const PONG_WITHIN: Duration = Duration::from_millis(250);

/// The isolation level that every statement is written for: a statement that has waited for a lock sees what its
/// holder committed.
pub(crate) const ISOLATION: &str = "read committed";

/// Begins a transaction of that level.
const BEGIN: &str = "begin isolation level read committed";

/// Begins a transaction, in a task of its own. If a request is cancelled during `BEGIN`, the connection would
/// otherwise stay in a transaction that nobody ends (sqlx 0.8 counts it only when the answer is there).
///
/// It names its isolation level. A check after a lock would otherwise read an old snapshot where a pooler drops the
/// default that [`with_session_settings`] asks for.
///
/// # Errors
/// When the database cannot be reached.
pub async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    #[expect(clippy::disallowed_methods, reason = "this is the place that may")]
    let begin = async move {
        match pool.begin_with(BEGIN).await {
            Err(error) if is_cut(&error) => pool.begin_with(BEGIN).await,
            begun => begun,
        }
    };
    tokio::spawn(begin).await.map_err(|_| sqlx::Error::WorkerCrashed)?
}

/// Does what is quick with a connection, if there is one. A connection that says nothing for too long is
/// closed.
///
/// # Errors
/// Those of the connection and of `work`, and an `Io` when that takes too long.
pub async fn on<T>(
    connection: sqlx::Result<PoolConnection<Postgres>>,
    work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
) -> sqlx::Result<T> {
    let mut connection = connection?;
    match timeout(QUICK, work(&mut connection)).await {
        Ok(done) => done,
        Err(late) => {
            connection.close_on_drop();
            Err(sqlx::Error::Io(late.into()))
        }
    }
}

/// Connections for the service, but for the [reserve]; none is made before it is needed.
#[must_use]
pub fn pool(options: PgConnectOptions, config: &Config) -> PgPool {
    // Whoever gave up may have left a statement under way.
    let released_within = config.database_statement_timeout + PONG_WITHIN;
    PgPoolOptions::new()
        .max_connections(config.database_connections - reserve::share(config))
        .acquire_timeout(config.database_acquire_timeout)
        // For the metrics alone. At a level that the log leaves out, each of these would be decided anew.
        .acquire_time_level(LevelFilter::Info)
        // Asking a connection whether it is alive costs each request a second round trip; one that was in
        // use a moment ago is.
        .test_before_acquire(false)
        .before_acquire(|connection, usage| {
            Box::pin(async move {
                if usage.idle_for > ALIVE_FOR {
                    // With an error it is closed at once, and another one is made.
                    ask(connection, PONG_WITHIN).await?;
                }
                Ok(true)
            })
        })
        // sqlx asks as well, and would wait for an answer until the kernel gives up.
        .after_release(move |connection, _| {
            Box::pin(async move { ask(connection, released_within).await.map(|()| true) })
        })
        .connect_lazy_with(with_session_settings(options, config).application_name("portcullis"))
}

/// With the settings that the service relies on: its time-outs and the isolation level. A statement that takes longer
/// is aborted, and one that waits for a lock much sooner. A request that has ended must not hold a connection,
/// and one locked row must not hold all of them.
///
/// They are startup parameters. A pooler in transaction mode would keep a `SET` on the one server connection that
/// ran it. It rejects startup parameters unless it is configured to set them itself on every connection.
#[must_use]
pub fn with_session_settings(options: PgConnectOptions, config: &Config) -> PgConnectOptions {
    let statement_timeout = config.database_statement_timeout.as_millis().to_string();
    options.options([
        ("statement_timeout", statement_timeout.clone()),
        ("lock_timeout", LOCK_TIMEOUT.as_millis().to_string()),
        ("idle_in_transaction_session_timeout", statement_timeout),
        ("default_transaction_isolation", ISOLATION.replace(' ', "\\ ")),
    ])
}

/// Asks a connection whether it is alive.
async fn ask(connection: &mut PgConnection, within: Duration) -> sqlx::Result<()> {
    let pong = timeout(within, connection.ping()).await;
    pong.map_err(|late| sqlx::Error::Io(late.into()))?
}

/// Whether the connection is over, and another may do better.
fn is_cut(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // 08 connection exception, 57P operator intervention.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
        }
        _ => false,
    }
}

/// Whether the database answers.
///
/// # Errors
/// When it does not.
pub async fn ping(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query_scalar!(r#"select 1 as "one!""#).fetch_one(db).await.map(drop)
}

fn interval(duration: Duration) -> sqlx::Result<PgInterval> {
    PgInterval::try_from(duration).map_err(sqlx::Error::Encode)
}

/// One column of many rows.
fn each<'a, T, C>(rows: &'a [T], column: impl Fn(&'a T) -> C) -> Vec<C> {
    rows.iter().map(column).collect()
}

/// What was found for each of so many, by its number from one, as `with ordinality` counts.
fn in_order<T>(count: usize, found: impl Iterator<Item = (i64, T)>) -> Vec<Option<T>> {
    let mut places: Vec<_> = std::iter::repeat_with(|| None).take(count).collect();
    for (number, one) in found {
        let place = usize::try_from(number - 1).ok().and_then(|at| places.get_mut(at));
        if let Some(place) = place {
            *place = Some(one);
        }
    }
    places
}
