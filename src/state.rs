//! What every request shares.

use std::ops::Deref;
use std::sync::Arc;

use sqlx::PgPool;

use crate::body_budget::BodyBudget;
use crate::config::Config;
use crate::lookups::Lookups;
use crate::metrics::Metrics;
use crate::password::Hasher;
use crate::session::by_use;
use crate::session::cookie::Cookies;
use crate::session::records::Records;
use crate::store::reserve::Reserve;
use crate::touches::Touches;

/// The state behind the router; a clone is the same one, and costs a request next to nothing.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

/// What [`App`] leads to.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub config: Arc<Config>,
    /// Connections to PostgreSQL.
    pub pool: PgPool,
    /// Where passwords are hashed.
    pub hasher: Hasher,
    /// Where new session ids come from.
    pub records: Records,
    /// Reserved connections for authentication.
    pub reserve: Reserve,
    /// Where is looked up who is calling.
    pub lookups: Lookups,
    /// Where uses of sessions and API tokens are written down.
    pub touches: Touches,
    /// How the session cookie is written and read.
    pub cookies: Cookies,
    /// The memory for bodies of requests.
    pub bodies: BodyBudget,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl App {
    /// The state of a service with these settings on this database, in the runtime at hand, which counts into
    /// `metrics`.
    #[must_use]
    pub fn new(config: Config, pool: PgPool, metrics: Metrics) -> Self {
        let by = by_use(&config);
        let hasher = Hasher::new(&config);
        let reserve = Reserve::new(&pool, &config, &metrics);
        Self(Arc::new(Shared {
            bodies: BodyBudget::new(hasher.metrics().shed()),
            hasher,
            records: Records::new(pool.clone()),
            lookups: Lookups::new(&reserve, by, &metrics.panics),
            reserve,
            touches: Touches::new(&pool, by, &metrics.panics),
            cookies: Cookies::new(&config),
            metrics: Arc::new(metrics),
            config: Arc::new(config),
            pool,
        }))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
