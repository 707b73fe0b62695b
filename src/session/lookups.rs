//! Finds the sessions that requests are made with: one statement for all who ask at the same time.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;

use super::find::by_use;
use crate::batch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::reserve::{Reserve, Reserved};
use crate::store::sessions::{self, Live, Use, Wanted};
use crate::telemetry::RequestContext;

/// Statements at a time: with more of them each finds fewer sessions, and all together cost more.
const AT_ONCE: usize = 2;
/// When a statement is taken for one that hangs, so that those who come after it need not wait for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where sessions are looked up.
#[derive(Clone, Debug)]
pub struct Lookups(Sender<Lookup>);

/// What one request asks.
#[derive(Debug)]
struct Lookup {
    wanted: Wanted,
    answer: oneshot::Sender<Found>,
    request: RequestContext,
}

type Found = std::result::Result<Option<Live>, Arc<sqlx::Error>>;

impl Lookups {
    /// Lookups in this database, by tasks of the runtime at hand.
    #[must_use]
    pub fn new(reserve: Reserve, config: &Config) -> Self {
        let by = by_use(config);
        let answer = move |connection, lookups| answer(connection, by, lookups);
        let take = move || {
            let reserve = reserve.clone();
            async move { reserve.take().await }
        };
        Self(batch::start(take, AT_ONCE, PATIENCE, answer))
    }

    /// The session that stands behind a record. The statement begins after this is called, so that one
    /// that was ended before is not found.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find(&self, wanted: Wanted) -> Result<Option<Live>> {
        let (answer, answered) = oneshot::channel();
        let lookup = Lookup { wanted, answer, request: RequestContext::current() };
        self.0.send(lookup).await.map_err(|_| Error::internal("nobody looks up"))?;
        Ok(answered.await.map_err(Error::internal)??)
    }
}

async fn answer(connection: sqlx::Result<Reserved>, by: Use, lookups: Vec<Lookup>) {
    // Who asked may be gone by now.
    let lookups: Vec<_> = lookups.into_iter().filter(|lookup| !lookup.answer.is_closed()).collect();
    // What is done for several is a part of one.
    let Some(request) = lookups.first().map(|lookup| lookup.request.clone()) else { return };
    let (wanted, askers): (Vec<_>, Vec<_>) =
        lookups.into_iter().map(|lookup| (lookup.wanted, lookup.answer)).unzip();
    let found = async {
        let find = async |connection: &mut PgConnection| {
            sessions::find_live(connection, &wanted, by).await
        };
        connection?.run(find).await
    };
    match request.run(found).await {
        Ok(found) => askers.into_iter().zip(found).for_each(|(asker, live)| tell(asker, Ok(live))),
        Err(error) => {
            let error = Arc::new(error);
            askers.into_iter().for_each(|asker| tell(asker, Err(Arc::clone(&error))));
        }
    }
}

fn tell(asker: oneshot::Sender<Found>, found: Found) {
    let _ = asker.send(found);
}
