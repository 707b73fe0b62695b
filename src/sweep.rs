//! Deletes what has expired, a little at a time. Every replica may do so at once.

use std::time::{Duration, Instant};

use crate::state::App;
use crate::store::{
    audit_events, known_devices, one_time_tokens, outbox, registrations, session_records, sessions,
    throttles,
};

const EVERY: Duration = Duration::from_secs(60);
/// Rows a statement: few enough that nobody waits for it, nor for its log to be written.
const BATCH: i64 = 100;
/// How many times as long as the batches of a turn took the sweep rests before the next: it takes no more
/// of a slow database than of a fast one.
const REST: u32 = 4;
/// As long as browsers keep the cookie (RFC 6265bis §5.6.2).
const DEVICE_KEEP: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// A mail is tried for a day and an hour at most, and what it holds stands for another day.
const MAIL_KEEP: Duration = Duration::from_secs(50 * 60 * 60);

/// Sweeps now and then, for ever. An error is logged, and the next round tries again.
pub async fn run(app: App) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match once(&app).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "what had expired was deleted"),
            Err(error) => tracing::warn!(%error, "what has expired could not be deleted"),
        }
    }
}

/// Deletes everything that has expired by now, and returns how many rows that was.
///
/// # Errors
/// Those of the database.
pub async fn once(app: &App) -> sqlx::Result<u64> {
    let mut swept = 0;
    loop {
        let start = Instant::now();
        let mut connection = app.pool.acquire().await?;
        let ended = sessions::sweep(&mut connection, BATCH).await? as u64;
        let orphans = session_records::sweep(&mut *connection, BATCH).await?;
        let events = audit_events::sweep(&mut *connection, app.config.audit_keep, BATCH).await?;
        let limits = throttles::sweep(&mut *connection, BATCH).await?;
        let devices = known_devices::sweep(&mut *connection, DEVICE_KEEP, BATCH).await?;
        let mailed = one_time_tokens::sweep(&mut *connection, BATCH).await?;
        let unsent = outbox::sweep(&mut *connection, MAIL_KEEP, BATCH).await?;
        let wanted = registrations::sweep(&mut *connection, MAIL_KEEP, BATCH).await?;
        let batches = [
            ("sessions", ended),
            ("session_records", orphans),
            ("audit_events", events),
            ("throttles", limits),
            ("known_devices", devices),
            ("one_time_tokens", mailed),
            ("outbox", unsent),
            ("registrations", wanted),
        ];
        for (table, rows) in batches {
            app.metrics.count_swept(table, rows);
            swept += rows;
        }
        if batches.iter().all(|(_, rows)| *rows < BATCH as u64) {
            return Ok(swept);
        }
        drop(connection);
        tokio::time::sleep(start.elapsed() * REST).await;
    }
}
