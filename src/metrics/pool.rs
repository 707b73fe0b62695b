//! Connections to PostgreSQL, by OpenTelemetry's conventions for pools.

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
pub(super) struct Connections(pub(super) PgPool);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        // They are counted one after the other, so that there may seem to be more idle ones than there are.
        let idle = u32::try_from(self.0.num_idle()).unwrap_or(u32::MAX);
        let used = self.0.size().saturating_sub(idle);
        let help = "Connections to PostgreSQL, but for those kept for who is calling";
        let mut count = encoder.encode_descriptor(
            "db_client_connection_count",
            help,
            None,
            MetricType::Gauge,
        )?;
        for (state, number) in [("used", used), ("idle", idle)] {
            ConstGauge::new(number).encode(count.encode_family(&State { state })?)?;
        }
        let help = "Connections to PostgreSQL that there may be, but for those";
        let max =
            encoder.encode_descriptor("db_client_connection_max", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.0.options().get_max_connections()).encode(max)
    }
}
