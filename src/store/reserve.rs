//! Connections at hand for what every request asks first: who is calling.
//!
//! Between two lookups they do not go back to the pool, which would ask each whether it is alive: a lookup
//! is one round trip. Nor are they left to those who wait for a row that somebody has locked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::time::{sleep, timeout};

use super::{ask, is_cut};

/// How many there are, of a pool of at least four times as many.
const MOST: u32 = 2;
const SHARE: u32 = 4;
/// How often those that nobody uses are asked whether they are alive: sooner than firewalls forget them.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// How long one is kept from the pool, which closes those that are old.
const KEEP: Duration = Duration::from_secs(300);
/// How long it may take to find or to write down what requests ask: it has waited for a lock by then.
const QUICK: Duration = Duration::from_secs(3);

/// Connections at hand; a clone is the same ones.
#[derive(Clone, Debug)]
pub struct Reserve(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: PgPool,
    idle: Mutex<Vec<Reserved>>,
}

/// A connection that may be put back.
#[derive(Debug)]
pub struct Reserved {
    connection: PoolConnection<Postgres>,
    since: Instant,
}

impl Reserve {
    /// Some of the pool's connections, once they are needed, in the runtime at hand.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let shared = Arc::new(Shared { pool, idle: Mutex::default() });
        tokio::spawn(keep_alive(Arc::downgrade(&shared)));
        Self(shared)
    }

    /// One that is at hand, or else one of the pool's.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn take(&self) -> sqlx::Result<Reserved> {
        let at_hand = self.0.idle().pop();
        match at_hand {
            Some(reserved) => Ok(reserved),
            None => self.0.acquire().await,
        }
    }

    /// Does, with one that was [taken](Self::take), what is quick and may be done twice. It is, once, when the
    /// connection turns out to have been cut.
    ///
    /// # Errors
    /// That of the taking, those of `work`, and an `Io` when that takes too long. The connection is closed
    /// then: whoever got it next would wait for it, too.
    pub async fn run<T>(
        &self,
        taken: sqlx::Result<Reserved>,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T> + Copy,
    ) -> sqlx::Result<T> {
        match self.try_once(taken?, work).await? {
            Ok(done) => Ok(done),
            Err(_cut) => self.try_once(self.0.acquire().await?, work).await?,
        }
    }

    /// The inner error is that of a connection that was cut.
    async fn try_once<T>(
        &self,
        mut reserved: Reserved,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T> + Copy,
    ) -> sqlx::Result<sqlx::Result<T>> {
        match timeout(QUICK, work(&mut reserved.connection)).await {
            Ok(Ok(done)) => {
                self.0.put_back(reserved);
                Ok(Ok(done))
            }
            // What is dropped goes to the pool, which asks it whether it is alive.
            Ok(Err(error)) if is_cut(&error) => Ok(Err(error)),
            Ok(Err(error)) => Err(error),
            Err(late) => {
                reserved.connection.close_on_drop();
                Err(sqlx::Error::Io(late.into()))
            }
        }
    }
}

impl Shared {
    async fn acquire(&self) -> sqlx::Result<Reserved> {
        Ok(Reserved { connection: self.pool.acquire().await?, since: Instant::now() })
    }

    fn put_back(&self, reserved: Reserved) {
        let most = MOST.min(self.pool.options().get_max_connections() / SHARE) as usize;
        let mut idle = self.idle();
        if idle.len() < most && reserved.since.elapsed() < KEEP && !self.pool.is_closed() {
            idle.push(reserved);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Reserved>> {
        // Every change of it is one call.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks those that nobody uses whether they are alive, for as long as somebody has the reserve.
async fn keep_alive(reserve: Weak<Shared>) {
    loop {
        sleep(ASK_EVERY).await;
        let Some(reserve) = reserve.upgrade() else { return };
        let idle = std::mem::take(&mut *reserve.idle());
        for mut reserved in idle {
            if ask(&mut reserved.connection).await.is_ok() {
                reserve.put_back(reserved);
            } else {
                reserved.connection.close_on_drop();
            }
        }
    }
}
