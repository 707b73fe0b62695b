//! Finds the sessions that requests are made with: one statement for all who ask at the same time.

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::find::by_use;
use crate::batch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::sessions::{self, Live, Use, Wanted};

/// Statements at a time: with more of them each finds fewer sessions, and all together cost more. With one,
/// a connection that hangs would hold everybody up.
const AT_ONCE: usize = 2;

/// Where sessions are looked up.
#[derive(Clone, Debug)]
pub struct Lookups(UnboundedSender<Lookup>);

/// What one request asks.
#[derive(Debug)]
struct Lookup {
    wanted: Wanted,
    answer: oneshot::Sender<Found>,
}

type Found = std::result::Result<Option<Live>, Arc<sqlx::Error>>;

impl Lookups {
    /// Lookups in this database, by tasks of the runtime at hand.
    #[must_use]
    pub fn new(pool: PgPool, config: &Config) -> Self {
        let by = by_use(config);
        let answer = move |lookups| answer(pool.clone(), by, lookups);
        Self(batch::start(AT_ONCE, config.request_timeout, answer))
    }

    /// The session that stands behind a record. The statement begins after this is called, so that one
    /// that was ended before is not found.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find(&self, wanted: Wanted) -> Result<Option<Live>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Lookup { wanted, answer }).map_err(|_| Error::internal("nobody looks up"))?;
        Ok(answered.await.map_err(Error::internal)??)
    }
}

async fn answer(pool: PgPool, by: Use, lookups: Vec<Lookup>) {
    let (wanted, askers): (Vec<_>, Vec<_>) =
        lookups.into_iter().map(|lookup| (lookup.wanted, lookup.answer)).unzip();
    match sessions::find_live(&pool, &wanted, by).await {
        Ok(found) => askers.into_iter().zip(found).for_each(|(asker, live)| tell(asker, Ok(live))),
        Err(error) => {
            let error = Arc::new(error);
            askers.into_iter().for_each(|asker| tell(asker, Err(Arc::clone(&error))));
        }
    }
}

fn tell(asker: oneshot::Sender<Found>, found: Found) {
    // Who asked may be gone by now.
    let _ = asker.send(found);
}
