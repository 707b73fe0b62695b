//! What would cost too much to look at whenever somebody asks.

use std::time::Duration;

use crate::state::App;
use crate::store::sessions;

const EVERY: Duration = Duration::from_secs(60);

/// Looks now and then, for ever.
pub async fn run(app: App) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match sessions::count(&app.pool).await {
            Ok(count) => drop(app.metrics.sessions.set(count)),
            Err(error) => tracing::warn!(%error, "sessions could not be counted"),
        }
    }
}
