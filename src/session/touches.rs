//! Writes down that sessions are in use, off the way of the requests: one statement for many.

use sqlx::PgPool;
use tokio::sync::mpsc::UnboundedSender;

use super::find::by_use;
use super::records;
use crate::batch;
use crate::config::Config;
use crate::store::sessions::{self, Touch, Use};

/// Where uses of sessions are written down.
#[derive(Clone, Debug)]
pub struct Touches(UnboundedSender<Touch>);

impl Touches {
    /// Uses in this database, written down by tasks of the runtime at hand.
    #[must_use]
    pub fn new(pool: PgPool, config: &Config) -> Self {
        let by = by_use(config);
        let write = move |touches| write(pool.clone(), by, touches);
        Self(batch::start(1, config.request_timeout, write))
    }

    /// Has a use written down soon.
    pub fn add(&self, touch: Touch) {
        // It is gone only when the service is.
        let _ = self.0.send(touch);
    }
}

async fn write(pool: PgPool, by: Use, touches: Vec<Touch>) {
    let written = async {
        let mut connection = pool.acquire().await?;
        sessions::touch(&mut connection, &touches, by, records::SLACK).await
    };
    if let Err(error) = written.await {
        // The sessions stand; what is lost is a minute of their idle time.
        tracing::warn!(%error, uses = touches.len(), "uses of sessions were not written down");
    }
}
