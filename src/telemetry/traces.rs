//! Traces by OTLP, where the standard variables name a collector.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use super::statements::{self, Statements};
use super::{TRACE, collector, environment};

/// What the SDK calls a service that nobody has named begins so.
const UNNAMED: &str = "unknown_service";
/// How long the last spans have when the service ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Traces on their way to a collector.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Traces as OpenTelemetry's variables have them; none without a collector.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn from_env(runtime: &Handle) -> Result<Option<Self>, String> {
        let Some(wanted) = environment::exporter()? else { return Ok(None) };
        let client = collector::client(&wanted, runtime.clone())?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(wanted.endpoint.as_str())
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|error| format!("traces cannot be sent: {error}"))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .build();
        Ok(Some(Self(provider)))
    }

    /// What makes traces of the code's spans.
    pub(super) fn spans<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let spans = Targets::new().with_target(TRACE, LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(spans)
    }

    /// What makes spans of the statements that PostgreSQL is sent.
    pub(super) fn statements<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let done = Targets::new().with_target(statements::DONE, LevelFilter::DEBUG);
        Statements(self.tracer()).with_filter(done)
    }

    /// Sends what was not sent yet, for a short while.
    pub fn flush(self) {
        // Whatever came of it, there is nobody left who could mend it.
        let _ = self.0.shutdown_with_timeout(FLUSH_WITHIN);
    }

    fn tracer(&self) -> SdkTracer {
        self.0.tracer("portcullis")
    }
}

/// Who we are, unless the variables say otherwise.
fn resource() -> Resource {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let detected = Resource::builder().build();
    let name = detected.get(&"service.name".into()).map(|name| name.to_string());
    let resource = Resource::builder().with_attribute(version);
    match name.is_none_or(|name| name.starts_with(UNNAMED)) {
        true => resource.with_service_name("portcullis").build(),
        false => resource.build(),
    }
}
