//! Where log lines and traces go, and what else listens to what the code tells.

mod collector;
mod environment;
mod printable;
mod propagation;
mod request;
mod request_context;
mod statements;
mod traces;

use std::io::IsTerminal as _;

use tokio::runtime::Handle;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use self::printable::Printable;
pub use self::propagation::{go_on, traceparent};
pub use self::request::RequestTrace;
pub use self::request_context::RequestContext;
pub use self::traces::Traces;
use crate::config::{Config, LogFormat};
use crate::metrics::{self, Metrics, WaitLayer};

/// The target of spans that are for traces alone: without a collector they cost nothing.
pub const TRACE: &str = "portcullis_trace";

/// Bytes that are logged of what a client sends: every line of a request repeats them.
const SENT_MAX: usize = 1024;

/// The part of a text from a client that is logged.
pub(crate) fn start_of(text: &str) -> &str {
    &text[..text.floor_char_boundary(SENT_MAX)]
}

/// Starts the log.
///
/// # Errors
/// One line for the operator.
pub fn log(config: &Config) -> Result<(), String> {
    // A filter for all costs less than one for each.
    let log = log_layer(config).and_then(filter(config)?);
    tracing_subscriber::registry().with(log).try_init().map_err(|error| error.to_string())
}

/// Starts the log, and what else a service tells by its settings and OpenTelemetry's variables.
///
/// # Errors
/// One line for the operator.
pub fn start(
    config: &Config,
    metrics: &Metrics,
    runtime: &Handle,
) -> Result<Option<Traces>, String> {
    let traces = Traces::from_env(runtime)?;
    if traces.is_none() && config.metrics_listen.is_none() {
        log(config)?;
        return Ok(None);
    }
    let waits = config.metrics_listen.map(|_| {
        let acquired = Targets::new().with_target(metrics::ACQUIRED, LevelFilter::INFO);
        WaitLayer::new(metrics).with_filter(acquired)
    });
    tracing_subscriber::registry()
        .with(log_layer(config).with_filter(filter(config)?))
        .with(waits)
        .with(traces.as_ref().map(Traces::spans))
        .with(traces.as_ref().map(Traces::statements))
        .try_init()
        .map_err(|error| error.to_string())?;
    Ok(traces)
}

fn filter(config: &Config) -> Result<EnvFilter, String> {
    // What is for others.
    let not_ours = format!("{},{TRACE}=off,{}=warn", config.log, metrics::ACQUIRED);
    EnvFilter::try_new(not_ours).map_err(|error| error.to_string())
}

fn log_layer(config: &Config) -> Box<dyn Layer<Registry> + Send + Sync> {
    let log = tracing_subscriber::fmt::layer()
        .with_writer(Printable::new(std::io::stderr, config.log_format))
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).boxed(),
    }
}
