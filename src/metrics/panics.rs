//! Panics of background tasks.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::labels::Panicked;
use crate::supervise::Task;

/// Counts the panics of background tasks; a clone counts into the same.
#[derive(Clone, Debug)]
pub struct Panics(pub(super) Family<Panicked, Counter>);

impl Default for Panics {
    fn default() -> Self {
        let panics = Self(Family::default());
        // An alert sees the first panic only if the counter was 0 before.
        for task in Task::ALL {
            drop(panics.of_task(task));
        }
        panics
    }
}

impl Panics {
    /// Counts a panic of this task.
    pub fn count(&self, task: Task) {
        self.of_task(task).inc();
    }

    /// The number of panics of this task.
    #[must_use]
    pub fn of(&self, task: Task) -> u64 {
        self.of_task(task).get()
    }

    fn of_task(&self, task: Task) -> Counter {
        self.0.get_or_create_owned(&Panicked { task: task.as_str() })
    }
}
