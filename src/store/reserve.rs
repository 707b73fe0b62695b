//! Connections for what every request asks first: who is calling.
//!
//! They are none of the pool's. That asks each whether it is alive when it comes back, and before it is used
//! again: a lookup is one round trip. Nor can they all be taken by those who wait for a row that is locked.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::{PONG_WITHIN, QUICK, ask, is_cut};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::supervise::{Task, supervise};

/// How many there are: one in so many of all connections, and no more than that.
const SHARE: u32 = 4;
const MOST: u32 = 4;
/// How often those that nobody uses are asked whether they are alive: sooner than firewalls forget them.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// How long one is used. Poolers and failovers count on connections that end.
const KEEP: Duration = Duration::from_secs(30 * 60);
/// How long after one that failed a connection is tried again, at first; then twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// When PostgreSQL itself gives it up: nobody would wait for it any more.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(2500);

/// How many of the connections that there may be are kept for who is calling.
pub(super) fn share(config: &Config) -> u32 {
    (config.database_connections / SHARE).clamp(1, MOST)
}

/// The connections; a clone is the same ones.
#[derive(Clone, Debug)]
pub struct Reserve(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    connect_within: Duration,
    max: u32,
    places: Arc<Semaphore>,
    timeouts: Counter,
    idle: Mutex<Vec<Kept>>,
}

/// How many connections a pool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// In use.
    pub used: u32,
    /// Open and not in use.
    pub idle: u32,
    /// The most that there may be.
    pub max: u32,
}

#[derive(Debug)]
struct Kept {
    connection: PgConnection,
    since: Instant,
}

/// A connection that somebody has.
#[derive(Debug)]
pub struct Reserved {
    kept: Kept,
    shared: Arc<Shared>,
    _place: OwnedSemaphorePermit,
}

/// How it went.
enum Outcome<T> {
    Done(T),
    /// The connection is over; nobody knows what it did.
    Cut(sqlx::Error),
}

impl Reserve {
    /// Connections to where the pool's lead, made when they are needed, in the runtime at hand.
    #[must_use]
    pub fn new(pool: &PgPool, config: &Config, metrics: &Metrics) -> Self {
        let max = share(config);
        let options = PgConnectOptions::clone(&pool.connect_options());
        let statement_timeout = STATEMENT_TIMEOUT.min(config.database_statement_timeout);
        let shared = Arc::new(Shared {
            options: options.options([("statement_timeout", statement_timeout.as_millis())]),
            connect_within: config.database_acquire_timeout,
            max,
            places: Arc::new(Semaphore::new(max as usize)),
            timeouts: metrics.reserve_timeouts.clone(),
            idle: Mutex::default(),
        });
        let (panics, weak) = (metrics.panics.clone(), Arc::downgrade(&shared));
        let run = move || keep_alive(Weak::clone(&weak));
        tokio::spawn(supervise(Task::ReservedConnections, panics, run));
        Self(shared)
    }

    /// The connections at this moment.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let free = u32::try_from(self.0.places.available_permits()).unwrap_or(u32::MAX);
        let idle = u32::try_from(self.0.idle().len()).unwrap_or(u32::MAX);
        Usage { used: self.0.max.saturating_sub(free), idle, max: self.0.max }
    }

    /// The next one that is free.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn take(&self) -> sqlx::Result<Reserved> {
        let taken = self.try_take().await;
        if taken.is_err() {
            self.0.timeouts.inc();
        }
        taken
    }

    async fn try_take(&self) -> sqlx::Result<Reserved> {
        let place = timeout(self.0.connect_within, Arc::clone(&self.0.places).acquire_owned());
        let place = place.await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        self.0.fill(place.map_err(|_| sqlx::Error::PoolClosed)?).await
    }
}

impl Reserved {
    /// Does what is quick, and may be done twice: it is done again when the connection turns out to have been
    /// cut.
    ///
    /// # Errors
    /// Those of `work`, and an `Io` when that takes too long.
    pub async fn run<T>(
        mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T> + Copy,
    ) -> sqlx::Result<T> {
        let mut outcome = self.try_once(work).await?;
        if let Outcome::Cut(_) = outcome {
            self.kept = self.shared.connect().await?;
            outcome = self.try_once(work).await?;
        }
        match outcome {
            Outcome::Done(done) => {
                // Otherwise it is closed: an answer may be on its way that was not waited for.
                self.give_back();
                Ok(done)
            }
            Outcome::Cut(error) => Err(error),
        }
    }

    /// Leaves it to others, and closes one that is old.
    pub fn give_back(self) {
        if self.kept.since.elapsed() < KEEP {
            self.shared.idle().push(self.kept);
        }
    }

    async fn try_once<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<Outcome<T>> {
        match timeout(QUICK, work(&mut self.kept.connection)).await {
            Ok(Ok(done)) => Ok(Outcome::Done(done)),
            Ok(Err(error)) if is_cut(&error) => Ok(Outcome::Cut(error)),
            Ok(Err(error)) => Err(error),
            Err(late) => Err(sqlx::Error::Io(late.into())),
        }
    }
}

impl Shared {
    async fn fill(self: &Arc<Self>, place: OwnedSemaphorePermit) -> sqlx::Result<Reserved> {
        let idle = self.idle().pop();
        let kept = match idle {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        Ok(Reserved { kept, shared: Arc::clone(self), _place: place })
    }

    async fn connect(&self) -> sqlx::Result<Kept> {
        let connection = timeout(self.connect_within, self.connect_when_it_is_up()).await;
        let connection = connection.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(Kept { connection, since: Instant::now() })
    }

    /// Tries again and again while PostgreSQL starts or has too many connections.
    async fn connect_when_it_is_up(&self) -> sqlx::Result<PgConnection> {
        let mut pause = FIRST_PAUSE;
        loop {
            match PgConnection::connect_with(&self.options).await {
                Err(error) if is_passing(&error) => sleep(pause).await,
                connected => return connected,
            }
            pause *= 2;
        }
    }

    /// Has one that nobody uses replaced if it is old or does not answer.
    async fn look_after(&self, mut kept: Kept) -> sqlx::Result<()> {
        if kept.since.elapsed() > KEEP || ask(&mut kept.connection, PONG_WITHIN).await.is_err() {
            kept = self.connect().await?;
        }
        self.idle().push(kept);
        Ok(())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Kept>> {
        // Every change of it is one call.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another try to connect, a moment later, may do better.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == ErrorKind::ConnectionRefused,
        // 53300 too many connections, 57P03 cannot connect now.
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("53300" | "57P03")),
        _ => false,
    }
}

/// Looks after those that nobody uses, for as long as somebody has the reserve.
async fn keep_alive(reserve: Weak<Shared>) {
    loop {
        sleep(ASK_EVERY).await;
        let Some(shared) = reserve.upgrade() else { return };
        let count = shared.idle().len();
        for _ in 0..count {
            let Ok(_place) = Arc::clone(&shared.places).try_acquire_owned() else { break };
            // The one that was not used for longest.
            let oldest = {
                let mut idle = shared.idle();
                if idle.is_empty() { break } else { idle.remove(0) }
            };
            if let Err(error) = shared.look_after(oldest).await {
                tracing::debug!(%error, "a connection was lost");
            }
        }
    }
}
