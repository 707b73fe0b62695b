//! What a task of its own needs to know of the request that it works for.

use std::future::Future;

use opentelemetry::Context;
use opentelemetry::trace::FutureExt as _;
use tracing::{Instrument as _, Span};

/// What is being done: a part of this request, by its lines in the log, and of this trace.
#[derive(Clone, Debug)]
pub struct Whole {
    request: Span,
    trace: Context,
}

impl Whole {
    /// What is being done here.
    #[must_use]
    pub fn current() -> Self {
        Self { request: Span::current(), trace: Context::current() }
    }

    /// Does `part` of it, wherever that is.
    pub fn with<F: Future>(self, part: F) -> impl Future<Output = F::Output> + use<F> {
        part.with_context(self.trace).instrument(self.request)
    }
}
