//! A name for each request, in its answer and on every line that it logs.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;
use uuid::Uuid;

/// The header that carries the id, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of the request at hand.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id that `layer` gave this request.
    pub(crate) fn of(request: &Request) -> String {
        request.extensions().get::<Self>().map(Self::as_str).unwrap_or_default().to_owned()
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The client's own id when it cannot harm a log, else a new one.
    fn choose(request: &Request) -> Self {
        let harmless = |id: &&HeaderValue| {
            (1..=64).contains(&id.len())
                && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        };
        Self(request.headers().get(X_REQUEST_ID).filter(harmless).cloned().unwrap_or_else(|| {
            HeaderValue::from_str(&Uuid::now_v7().to_string())
                .unwrap_or(HeaderValue::from_static("unknown"))
        }))
    }
}

/// The outermost layer: names the request, and logs one line when it is answered.
///
/// The query is left out of the log: it may hold what is personal.
pub async fn layer(mut request: Request, next: Next) -> Response {
    let id = RequestId::choose(&request);
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("request", request_id = id.as_str(), %method, path);
    let start = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    span.in_scope(|| {
        let microseconds = start.elapsed().as_micros();
        tracing::info!(status = response.status().as_u16(), microseconds, "answered");
    });
    response.headers_mut().insert(X_REQUEST_ID, id.0);
    response
}
