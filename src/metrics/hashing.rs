//! What the threads that hash have to do, and how long it takes.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The first bound of what hashing takes, in seconds, and how many follow, each twice the one before: up to 16 s.
const FIRST_BOUND: f64 = 0.001;
const BOUNDS: u16 = 15;

/// Hashing; a clone counts into the same.
#[derive(Clone, Debug)]
pub struct Hashing {
    pub(super) queue: Gauge,
    pub(super) wait: Histogram,
    pub(super) run: Histogram,
    pub(super) shed: Counter,
}

impl Default for Hashing {
    fn default() -> Self {
        let histogram = || Histogram::new(exponential_buckets(FIRST_BOUND, 2.0, BOUNDS));
        Self {
            queue: Gauge::default(),
            wait: histogram(),
            run: histogram(),
            shed: Counter::default(),
        }
    }
}

impl Hashing {
    /// Counts somebody who waits for a turn, until the value ends or is dropped.
    pub fn wait(&self) -> Waiting {
        self.queue.inc();
        Waiting { queue: self.queue.clone(), wait: self.wait.clone(), since: Instant::now() }
    }

    /// Does a job, and takes down how long it took.
    pub fn time<T>(&self, job: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = job();
        self.run.observe(start.elapsed().as_secs_f64());
        done
    }

    /// Counts a request that is rejected because there is too much to hash.
    pub fn count_shed(&self) {
        self.shed.inc();
    }

    /// The counter of requests that are rejected with 503 `busy`, to count those with other reasons.
    #[must_use]
    pub fn shed(&self) -> Counter {
        self.shed.clone()
    }
}

/// Somebody who waits for a turn to hash.
#[derive(Debug)]
pub struct Waiting {
    queue: Gauge,
    wait: Histogram,
    since: Instant,
}

impl Waiting {
    /// Takes down how long it was until the turn came.
    pub fn end(self) {
        self.wait.observe(self.since.elapsed().as_secs_f64());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.queue.dec();
    }
}
