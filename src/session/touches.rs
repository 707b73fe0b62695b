//! Writes down that sessions are in use, off the way of the requests: one statement for many.

use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::find::by_use;
use super::records;
use crate::batch::{self, Connection};
use crate::config::Config;
use crate::store::reserve::Reserve;
use crate::store::sessions::{self, Touch, Use};

/// Where uses of sessions are written down.
#[derive(Clone, Debug)]
pub struct Touches(Sender<Touch>);

impl Touches {
    /// Uses in this database, written down by tasks of the runtime at hand.
    #[must_use]
    pub fn new(reserve: Reserve, config: &Config) -> Self {
        let by = by_use(config);
        let own = reserve.clone();
        let write = move |connection, touches| write(own.clone(), connection, by, touches);
        // One at a time, however long it takes: what hangs must not use up the connections.
        Self(batch::start(reserve, 1, Duration::MAX, write))
    }

    /// Has a use written down soon, unless too many wait: what is lost is a minute of idle time.
    pub fn add(&self, touch: Touch) {
        let _ = self.0.try_send(touch);
    }
}

async fn write(reserve: Reserve, connection: Connection, by: Use, touches: Vec<Touch>) {
    let written = reserve.run(connection, async |connection| {
        sessions::touch(connection, &touches, by, records::SLACK).await
    });
    if let Err(error) = written.await {
        // The sessions stand.
        tracing::warn!(%error, uses = touches.len(), "uses of sessions were not written down");
    }
}
