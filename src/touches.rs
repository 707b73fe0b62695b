//! Writes down that sessions and API tokens are in use, off the way of the requests: one statement for many.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::mpsc::Sender;
use uuid::Uuid;

use crate::batch;
use crate::metrics::Panics;
use crate::store::sessions::{self, Touch, Use};
use crate::store::{self, api_tokens};
use crate::supervise::Task;

type Acquired = sqlx::Result<PoolConnection<Postgres>>;

/// Where uses are written down.
#[derive(Clone, Debug)]
pub struct Touches {
    sessions: Sender<Touch>,
    api_tokens: Sender<Uuid>,
}

impl Touches {
    /// Uses in this database, written down by tasks of the runtime at hand.
    #[must_use]
    pub fn new(pool: &PgPool, by: Use, panics: &Panics) -> Self {
        let write = move |connection, touches| write_sessions(connection, by, touches);
        let acquire = || {
            let pool = pool.clone();
            move || pool.acquire()
        };
        // One at a time, however long it takes: what hangs must not use up the connections.
        Self {
            sessions: batch::start(
                (Task::SessionActivity, panics),
                acquire(),
                1,
                Duration::MAX,
                write,
            ),
            api_tokens: batch::start(
                (Task::ApiTokenActivity, panics),
                acquire(),
                1,
                Duration::MAX,
                write_api_tokens,
            ),
        }
    }

    /// Has the use of a session written down soon, unless too many wait: what is lost is a minute of idle time.
    pub fn add_session(&self, touch: Touch) {
        let _ = self.sessions.try_send(touch);
    }

    /// Has the use of an API token written down soon, unless too many wait.
    pub fn add_api_token(&self, id: Uuid) {
        let _ = self.api_tokens.try_send(id);
    }
}

async fn write_sessions(connection: Acquired, by: Use, touches: Vec<Touch>) {
    let write =
        async |connection: &mut PgConnection| sessions::touch(connection, &touches, by).await;
    tell(store::on(connection, write).await, touches.len());
}

async fn write_api_tokens(connection: Acquired, ids: Vec<Uuid>) {
    let write = async |connection: &mut PgConnection| api_tokens::touch(connection, &ids).await;
    tell(store::on(connection, write).await, ids.len());
}

fn tell(written: sqlx::Result<()>, uses: usize) {
    if let Err(error) = written {
        // What was used stands.
        tracing::warn!(%error, uses, "uses were not written down");
    }
}
