//! Connections to PostgreSQL, by OpenTelemetry's conventions for pools.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use sqlx::PgPool;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::Context;

use super::Metrics;
use crate::store::reserve::{Reserve, Usage};

/// What sqlx says, at the level `info`, of each connection that it hands out.
pub(crate) const ACQUIRED: &str = "sqlx::pool::acquire";
/// Its field that says after how many seconds.
const AFTER: &str = "aquired_after_secs";

/// The first bound of the waits in seconds, and how many follow, each four times the one before: up to 1.6 s.
const FIRST_BOUND: f64 = 0.0001;
const BOUNDS: u16 = 8;

pub(super) fn waits() -> Histogram {
    Histogram::new(exponential_buckets(FIRST_BOUND, 4.0, BOUNDS))
}

/// Takes down how long connections are waited for, by what sqlx says: that is the one place which all of
/// them pass.
#[derive(Debug)]
pub struct WaitLayer(Histogram);

impl WaitLayer {
    /// A layer that takes the waits down in `metrics`.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self(metrics.pool_wait.clone())
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for WaitLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut Wait(&self.0));
    }
}

struct Wait<'a>(&'a Histogram);

impl Visit for Wait<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == AFTER {
            self.0.observe(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// The connections that there are, looked at when they are asked for.
#[derive(Debug)]
pub(super) struct Connections {
    /// The main pool.
    pub(super) pool: PgPool,
    /// The reserved pool for authentication.
    pub(super) reserve: Reserve,
}

/// The values of the label `pool`.
const MAIN: &str = "main";
const RESERVED: &str = "reserved";

/// The label of the reserved pool.
pub(super) fn reserved() -> [(Cow<'static, str>, Cow<'static, str>); 1] {
    [("pool".into(), RESERVED.into())]
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    pool: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    pool: &'static str,
}

impl Connections {
    /// The main pool's connections are counted one after the other, so there may seem to be more idle ones
    /// than there are.
    fn main(&self) -> Usage {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        let used = self.pool.size().saturating_sub(idle);
        Usage { used, idle, max: self.pool.options().get_max_connections() }
    }
}

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let pools = [(MAIN, self.main()), (RESERVED, self.reserve.usage())];
        let mut count = encoder.encode_descriptor(
            "db_client_connection_count",
            "Connections to PostgreSQL, by pool and state",
            None,
            MetricType::Gauge,
        )?;
        for (pool, usage) in &pools {
            for (state, number) in [("used", usage.used), ("idle", usage.idle)] {
                ConstGauge::new(number).encode(count.encode_family(&State { pool, state })?)?;
            }
        }
        let mut max = encoder.encode_descriptor(
            "db_client_connection_max",
            "The most connections to PostgreSQL that a pool opens",
            None,
            MetricType::Gauge,
        )?;
        for (pool, usage) in &pools {
            ConstGauge::new(usage.max).encode(max.encode_family(&Pool { pool })?)?;
        }
        Ok(())
    }
}
