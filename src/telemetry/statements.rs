//! A span for each statement that PostgreSQL is sent, by what sqlx says of it: that is the one place which
//! all of them pass. It holds the text and no values.

use std::fmt;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Span as _, SpanKind, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::Layer;

/// What sqlx says, at the level `debug`, of each statement that is done.
pub(super) const DONE: &str = "sqlx::query";

/// Makes the spans, as children of the span in which the statement was sent.
pub(super) struct Statements(pub(super) SdkTracer);

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let (end, parent) = (SystemTime::now(), Context::current());
        // What nobody asked for, such as the sweep, is no part of a trace.
        if !parent.span().span_context().is_sampled() {
            return;
        }
        let mut statement = Statement::default();
        event.record(&mut statement);
        // Text that is as short as its summary is not said twice.
        let text = if statement.text.is_empty() { &statement.summary } else { &statement.text };
        let attributes = [
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.query.text", text.trim().to_owned()),
        ];
        self.0
            .span_builder(statement.summary)
            .with_kind(SpanKind::Client)
            .with_start_time(end.checked_sub(statement.took).unwrap_or(end))
            .with_attributes(attributes)
            .start_with_context(&self.0, &parent)
            .end_with_timestamp(end);
    }
}

/// What sqlx says of a statement.
#[derive(Default)]
struct Statement {
    summary: String,
    text: String,
    took: Duration,
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.text),
            _ => {}
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.took = Duration::try_from_secs_f64(value).unwrap_or_default();
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
