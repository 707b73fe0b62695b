//! What a task needs to know of the request that it works for.

use std::future::Future;

use opentelemetry::Context;
use opentelemetry::trace::FutureExt as _;
use tracing::{Instrument as _, Span};

/// The request that a line of the log, and the trace that a span, is part of.
#[derive(Clone, Debug)]
pub struct RequestContext {
    request: Span,
    trace: Context,
}

impl RequestContext {
    /// Those at hand.
    #[must_use]
    pub fn current() -> Self {
        Self { request: Span::current(), trace: Context::current() }
    }

    /// Does `work` as a part of them, in whichever task.
    pub fn run<F: Future>(self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.with_context(self.trace).instrument(self.request)
    }
}
