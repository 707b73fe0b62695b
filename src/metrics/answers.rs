//! Requests and how they were answered, by OpenTelemetry's conventions for HTTP servers.

use std::hash::{Hash, Hasher};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Bounds of how long requests take, in seconds: OpenTelemetry's, and finer below, since most take less than
/// its first.
const BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What every unknown method and every unknown path is, as OpenTelemetry has it.
pub(crate) const OTHER: &str = "_OTHER";

/// Those of RFC 9110 §9 and RFC 5789, the usual ones first.
const KNOWN_METHODS: [&str; 9] =
    ["GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "HEAD", "CONNECT", "TRACE"];

/// Requests under way, and how long those took that were answered.
#[derive(Clone, Debug)]
pub struct Answers {
    pub(super) durations: Family<Answered, Histogram, fn() -> Histogram>,
    pub(super) active: Family<Active, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Answered {
    http_request_method: &'static str,
    http_route: Route,
    http_response_status_code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Active {
    http_request_method: &'static str,
}

/// The template of a path that is known.
#[derive(Clone, Debug)]
struct Route(Option<MatchedPath>);

/// A request that is counted as under way until this is dropped: it may be given up.
struct UnderWay(Gauge);

impl Default for Answers {
    fn default() -> Self {
        let durations: fn() -> Histogram = || Histogram::new(BOUNDS);
        Self { durations: Family::new_with_constructor(durations), active: Family::default() }
    }
}

/// Counts a request, and how long it took if it was answered.
pub async fn layer(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = method_name(request.method());
    let route = Route(request.extensions().get::<MatchedPath>().cloned());
    let active = Active { http_request_method: method };
    let under_way = UnderWay::begin(answers.active.get_or_create_owned(&active));
    let response = next.run(request).await;
    drop(under_way);
    let answered = Answered {
        http_request_method: method,
        http_route: route,
        http_response_status_code: response.status().as_u16(),
    };
    answers.durations.get_or_create(&answered).observe(start.elapsed().as_secs_f64());
    response
}

impl UnderWay {
    fn begin(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A method as OpenTelemetry names it: none that a client made up.
pub(crate) fn method_name(method: &Method) -> &'static str {
    KNOWN_METHODS.iter().find(|known| method == **known).unwrap_or(&OTHER)
}

impl Route {
    fn as_str(&self) -> &str {
        self.0.as_ref().map_or(OTHER, MatchedPath::as_str)
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Route {}

impl Hash for Route {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}
