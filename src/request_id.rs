//! A name for each request, in its answer and on every line that it logs.

use std::net::IpAddr;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use tracing::field::{Empty, display};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::state::App;
use crate::telemetry::RequestTrace;
use crate::{forwarded, telemetry};

/// The header that carries the id, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of the request at hand.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id that a trusted proxy sends, if it is harmless in a log; otherwise a new one.
    ///
    /// A stranger must not choose the id: it finds the request's lines in the log and in the audit.
    fn choose(request: &Request, app: &App) -> Self {
        let is_trusted = forwarded::is_from_trusted_proxy(request.extensions(), app);
        let mut ids = request.headers().get_all(X_REQUEST_ID).iter();
        let id = match (ids.next(), ids.next()) {
            (Some(id), None) if is_trusted && is_harmless(id) => id.as_bytes().to_owned(),
            _ => Uuid::now_v7().to_string().into_bytes(),
        };
        // A copy: a clone of the header would keep all of the request's head in memory.
        Self(HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("unknown")))
    }
}

/// Whether an id has 1 to 64 of the characters that need no quoting in any log.
fn is_harmless(id: &HeaderValue) -> bool {
    (1..=64).contains(&id.len())
        && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// Names a request, and logs one line when it has ended.
///
/// The query is left out of the log: it may hold what is personal.
pub(crate) async fn name(
    app: &App,
    mut request: Request,
    answer: impl AsyncFnOnce(Request, &RequestId) -> Response,
) -> Response {
    let id = RequestId::choose(&request, app);
    request.extensions_mut().insert(id.clone());
    let trace = RequestTrace::begin(&request);
    // Whatever is logged names its request, down to errors alone.
    let span = tracing::error_span!(
        parent: &trace.span,
        "request",
        request_id = id.as_str(),
        trace_id = trace.id,
        method = telemetry::start_of(request.method().as_str()),
        path = telemetry::start_of(request.uri().path()),
        user_id = Empty,
        session_id = Empty,
    );
    let spans = (span.clone(), trace.span.clone());
    let mut line = AccessLine {
        span,
        trace,
        start: Instant::now(),
        method: request.method().clone(),
        route: request.extensions().get().cloned(),
        client: forwarded::client_address(&request, app),
        status: None,
    };
    let mut response = answer(request, &id).instrument(spans.0).instrument(spans.1).await;
    line.status = Some(response.status());
    response.headers_mut().insert(X_REQUEST_ID, id.0);
    response
}

/// The end of a request, told when this is dropped: the client may go away before there is an answer.
struct AccessLine {
    span: Span,
    trace: RequestTrace,
    start: Instant,
    method: Method,
    route: Option<MatchedPath>,
    client: Option<IpAddr>,
    status: Option<StatusCode>,
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let route = self.route.as_ref().map(MatchedPath::as_str);
        let microseconds = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.span.in_scope(|| match self.status {
            Some(status) => {
                // Where attempts come from that were refused (ASVS 16.3.2).
                let refused = status.is_client_error() || status.is_server_error();
                let client = self.client.filter(|_| refused).map(display);
                let status = status.as_u16();
                tracing::info!(route, status, client, microseconds, "answered");
            }
            None => tracing::info!(route, microseconds, "given up"),
        });
        self.trace.end(&self.method, route, self.status);
    }
}

/// Has the lines of the request at hand say who is calling, from now on.
pub(crate) fn name_caller(user_id: Uuid, session_id: Option<Uuid>) {
    let span = Span::current();
    span.record("user_id", display(user_id));
    span.record("session_id", session_id.map(display));
}
