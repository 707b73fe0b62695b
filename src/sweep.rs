//! Deletes what has expired, a little at a time. Every replica may do so at once.

mod limits;
mod personal;

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub use self::limits::trim;
use crate::config::Config;
use crate::state::App;
use crate::store::expired::{Batch, Expiring};

const EVERY: Duration = Duration::from_secs(60);
/// Rows a statement: few enough that nobody waits for it, nor for its log to be written.
const BATCH: i64 = 25;
/// How many times as long as a batch took the sweep rests before the next: it takes no more of a slow
/// database than of a fast one.
const REST: u32 = 9;
/// As long as browsers keep the cookie (RFC 6265bis §5.6.2).
const DEVICE_KEEP: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// A mail is tried for a day and an hour at most, and what it holds stands for another day.
const MAIL_KEEP: Duration = Duration::from_secs(50 * 60 * 60);
/// How long owners see API tokens that have expired.
const API_TOKEN_KEEP: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How often all accounts are checked for more sessions and API tokens than they may have. Logins keep to the limit; only
/// a lower limit, and a replica of an earlier version, leave more.
const TRIM_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Sweeps now and then, for ever.
pub async fn run(app: App) {
    let mut rounds = interval(EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trimmed_at: Option<Instant> = None;
    loop {
        rounds.tick().await;
        match once(&app).await {
            0 => {}
            swept => tracing::info!(swept, "what had expired was deleted"),
        }
        if trimmed_at.is_none_or(|at| at.elapsed() >= TRIM_EVERY) {
            trimmed_at = Some(Instant::now());
            trim(&app).await;
        }
    }
}

/// Deletes everything that has expired by now, and returns how many rows that was. Also anonymises the events of deleted
/// accounts. What cannot be done is logged, and left to the next time.
pub async fn once(app: &App) -> u64 {
    let mut swept = 0;
    for table in Expiring::ALL {
        if let Err(error) = empty(app, table, &mut swept).await {
            let table = table.as_str();
            tracing::warn!(%error, table, "what has expired could not be deleted");
        }
    }
    if let Err(error) = personal::anonymize(app).await {
        tracing::warn!(%error, "the events of deleted accounts could not be anonymised");
    }
    swept
}

async fn empty(app: &App, table: Expiring, swept: &mut u64) -> sqlx::Result<()> {
    let keep = keep(table, &app.config);
    let mut batch = Batch { after: OffsetDateTime::UNIX_EPOCH, keep, limit: BATCH };
    loop {
        let mut connection = app.pool.acquire().await?;
        let start = Instant::now();
        let gone = table.delete(&mut connection, batch).await?;
        let took = start.elapsed();
        drop(connection);
        let rows = gone.len() as u64;
        app.metrics.count_swept(table.as_str(), rows);
        *swept += rows;
        match gone.into_iter().max() {
            Some(last) => batch.after = last,
            None => return Ok(()),
        }
        sleep(took * REST).await;
    }
}

/// How long rows are kept whose own time does not say when they expire.
fn keep(table: Expiring, config: &Config) -> Duration {
    match table {
        Expiring::AuditEvents => config.audit_keep,
        Expiring::KnownDevices => DEVICE_KEEP,
        Expiring::Outbox | Expiring::Registrations => MAIL_KEEP,
        Expiring::ApiTokens => API_TOKEN_KEEP,
        Expiring::Sessions
        | Expiring::SessionRecords
        | Expiring::Throttles
        | Expiring::FormerUsernames
        | Expiring::OneTimeTokens => Duration::ZERO,
    }
}
