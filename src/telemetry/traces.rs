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
use url::Url;

use super::statements::{self, Statements};
use super::{TRACE, collector};

/// The collector for everything, and the one for traces, whose path is its own.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// Where the specification of OTLP/HTTP has traces go.
const PATH: &str = "v1/traces";
/// The variables of which one value is built in.
const BUILT_IN: [(&str, &str); 4] = [
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
];
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
        let Some(endpoint) = endpoint()? else { return Ok(None) };
        check()?;
        let client = collector::client(&endpoint, runtime.clone())?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint.as_str())
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

/// The collector that the variables name.
fn endpoint() -> Result<Option<Url>, String> {
    let general = || {
        let base = variable(ENDPOINT)?;
        Some((ENDPOINT, format!("{}/{PATH}", base.trim_end_matches('/'))))
    };
    let own = variable(TRACES_ENDPOINT).map(|url| (TRACES_ENDPOINT, url));
    let Some((name, text)) = own.or_else(general) else { return Ok(None) };
    let url = Url::parse(&text).ok().filter(|url| {
        let has_login = !url.username().is_empty() || url.password().is_some();
        matches!(url.scheme(), "http" | "https") && url.has_host() && !has_login
    });
    url.map(Some).ok_or(format!(
        "{name} must be an http or https URL without a login, such as http://localhost:4318 (its value is not shown)"
    ))
}

/// Refuses what is not built in.
fn check() -> Result<(), String> {
    for (name, allowed) in BUILT_IN {
        if let Some(other) = variable(name).filter(|value| value != allowed) {
            return Err(format!(
                "{name}=\"{other}\" is not allowed: it must be {allowed}, which is all that is built in"
            ));
        }
    }
    Ok(())
}

/// A variable that is set, and not empty, as compose files write what is not.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
