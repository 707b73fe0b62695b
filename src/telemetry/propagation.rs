//! How a trace goes on where it was not begun (W3C Trace Context).

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The header that names a caller's trace and span.
pub(super) const TRACEPARENT: &str = "traceparent";

/// What a caller said of its trace.
pub(super) fn extract(carrier: &dyn Extractor) -> Context {
    TraceContextPropagator::new().extract(carrier)
}

/// Names the span at hand, for what goes on elsewhere; none without a collector.
pub fn traceparent() -> Option<String> {
    let context = Context::current();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Makes a span part of what was named by [`traceparent`].
pub fn go_on(span: &Span, traceparent: Option<&str>) {
    if let (Some(parent), false) = (traceparent, span.is_disabled()) {
        let carrier = HashMap::from([(TRACEPARENT.to_owned(), parent.to_owned())]);
        // It has just been made, so that it takes one.
        let _ = span.set_parent(extract(&carrier));
    }
}
