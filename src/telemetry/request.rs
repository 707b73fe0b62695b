//! The trace that a request is part of (W3C Trace Context), and its span, by OpenTelemetry's conventions for
//! HTTP servers.

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Status, TraceContextExt as _, TraceId};
use opentelemetry_http::HeaderExtractor;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::propagation::{TRACEPARENT, extract};
use super::{TRACE, start_of};
use crate::metrics::{OTHER, method_name};

/// A request's part of a trace.
#[derive(Debug)]
pub struct RequestTrace {
    /// The request's span for the collector; disabled without one.
    pub span: Span,
    /// Names the trace: the caller's, or ours where there is a collector.
    pub id: Option<String>,
}

impl RequestTrace {
    /// Begins the span of a request, below the caller's.
    #[must_use]
    pub fn begin(request: &Request) -> Self {
        let headers = request.headers();
        let traced = headers.contains_key(TRACEPARENT);
        let parent = traced.then(|| extract(&HeaderExtractor(headers)));
        let method = method_name(request.method());
        let span = tracing::info_span!(
            target: TRACE,
            "request",
            otel.kind = "server",
            http.request.method = method,
            url.path = start_of(request.uri().path()),
        );
        let context = if span.is_disabled() {
            parent
        } else {
            if let Some(parent) = parent {
                let _ = span.set_parent(parent);
            }
            Some(span.context())
        };
        let id = context.map(|context| context.span().span_context().trace_id());
        Self { span, id: id.filter(|id| *id != TraceId::INVALID).map(|id| id.to_string()) }
    }

    /// Completes the span with how the request was answered, if it was.
    pub fn end(&self, method: &Method, route: Option<&str>, status: Option<StatusCode>) {
        if self.span.is_disabled() {
            return;
        }
        let method = match method_name(method) {
            OTHER => "HTTP",
            known => known,
        };
        let context = self.span.context();
        let span = context.span();
        if let Some(route) = route {
            span.set_attribute(KeyValue::new("http.route", route.to_owned()));
        }
        let name = route.map(|route| format!("{method} {route}"));
        span.update_name(name.unwrap_or_else(|| method.to_owned()));
        let Some(status) = status else { return };
        let code = i64::from(status.as_u16());
        span.set_attribute(KeyValue::new("http.response.status_code", code));
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
    }
}
