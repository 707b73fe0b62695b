//! All metrics, with their names and what they mean.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use sqlx::PgPool;

use super::pool::{Connections, reserved};
use super::{Hashing, Metrics};
use crate::store::reserve::Reserve;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// Those of a service.
#[must_use]
pub fn registry(metrics: &Metrics, hashing: &Hashing, pool: PgPool, reserve: Reserve) -> Registry {
    let mut registry = Registry::default();
    registry.register_with_unit(
        "http_server_request_duration",
        "How long requests took that were answered",
        Unit::Seconds,
        metrics.answers.durations.clone(),
    );
    registry.register(
        "http_server_active_requests",
        "Requests under way",
        metrics.answers.active.clone(),
    );
    registry.register_with_unit(
        "db_client_connection_wait_time",
        "How long a connection to PostgreSQL was waited for, by those who got one",
        Unit::Seconds,
        metrics.pool_wait.clone(),
    );
    registry.sub_registry_with_labels(reserved().into_iter()).register(
        "db_client_connection_timeouts",
        "Waits for a connection to PostgreSQL that ended without one",
        metrics.reserve_timeouts.clone(),
    );
    registry.register_collector(Box::new(Connections { pool, reserve }));
    registry.register_collector(Box::new(metrics.process.clone()));
    let own = registry.sub_registry_with_prefix("portcullis");
    own.register("build", "What runs", Info::new(Build { version: env!("CARGO_PKG_VERSION") }));
    own.register("logins", "Logins, by success or the code of the problem", metrics.logins.clone());
    own.register(
        "password_hash_queue_length",
        "Logins and others that wait for their turn to hash",
        hashing.queue.clone(),
    );
    own.register_with_unit(
        "password_hash_wait",
        "How long a turn to hash was waited for",
        Unit::Seconds,
        hashing.wait.clone(),
    );
    own.register_with_unit(
        "password_hash_run",
        "How long hashing took",
        Unit::Seconds,
        hashing.run.clone(),
    );
    own.register(
        "shed",
        "Requests rejected with 503 busy: too much to hash, or too many bodies in progress",
        hashing.shed.clone(),
    );
    own.register(
        "throttled",
        "Requests that were refused by a limit on guessing or mails",
        metrics.throttled.clone(),
    );
    own.register(
        "sessions_active",
        "Sessions that stand, looked at once a minute; of many, about so many",
        metrics.sessions.clone(),
    );
    own.register("swept_rows", "Rows that had expired and were deleted", metrics.swept.clone());
    own.register("mails", "Tries to send a mail", metrics.mails.clone());
    own.register(
        "task_panics",
        "Panics of background tasks, which were then restarted",
        metrics.panics.0.clone(),
    );
    registry
}
