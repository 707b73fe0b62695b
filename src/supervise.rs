//! Keeps background tasks running: a task that panics is logged, counted and started again.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::metrics::Panics;

/// The pause before the first restart. It doubles with each panic that follows soon.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause. A task that ran for as long as this has recovered.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A background task of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Deletes expired rows.
    Sweep,
    /// Sends the emails in the outbox.
    Outbox,
    /// Serves `GET /metrics`.
    Metrics,
    /// Counts the sessions once a minute.
    SessionCount,
    /// Looks up sessions in batches.
    SessionLookups,
    /// Looks up API tokens in batches.
    ApiTokenLookups,
    /// Pings PostgreSQL for `GET /readyz`.
    Pings,
    /// Records the activity of sessions in batches.
    SessionActivity,
    /// Records the activity of API tokens in batches.
    ApiTokenActivity,
    /// Keeps the reserved connections alive.
    ReservedConnections,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 10] = [
        Self::Sweep,
        Self::Outbox,
        Self::Metrics,
        Self::SessionCount,
        Self::SessionLookups,
        Self::ApiTokenLookups,
        Self::Pings,
        Self::SessionActivity,
        Self::ApiTokenActivity,
        Self::ReservedConnections,
    ];

    /// The name in the log and in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Outbox => "outbox",
            Self::Metrics => "metrics",
            Self::SessionCount => "session_count",
            Self::SessionLookups => "session_lookups",
            Self::ApiTokenLookups => "api_token_lookups",
            Self::Pings => "pings",
            Self::SessionActivity => "session_activity",
            Self::ApiTokenActivity => "api_token_activity",
            Self::ReservedConnections => "reserved_connections",
        }
    }
}

/// Runs a task until it ends by itself. After each panic it is started again, with a pause.
pub async fn supervise<F: Future<Output = ()>>(
    task: Task,
    panics: Panics,
    mut run: impl FnMut() -> F,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        // The call is inside: the future may also panic before its first step.
        if catch(task, &panics, async { run().await }).await {
            return;
        }
        if started.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Runs one piece of a task's work. Logs and counts a panic, and returns whether there was none.
pub(crate) async fn catch(task: Task, panics: &Panics, work: impl Future<Output = ()>) -> bool {
    let outcome = catch_panic(work).await;
    if let Err(panic) = &outcome {
        report(task, panics, panic.as_ref());
    }
    outcome.is_ok()
}

/// Runs work to its end, or to its panic.
pub(crate) async fn catch_panic<T>(work: impl Future<Output = T>) -> thread::Result<T> {
    let mut work = pin!(work);
    let outcome = poll_fn(|context| {
        // After a panic the work is never polled again, and nothing else sees what it left behind.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    });
    outcome.await
}

/// Logs and counts a panic.
pub(crate) fn report(task: Task, panics: &Panics, panic: &(dyn Any + Send)) {
    let panic = text_of(panic);
    tracing::error!(task = task.as_str(), panic, "a background task panicked and is restarted");
    panics.count(task);
}

/// What a panic says.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_restarted_after_a_growing_pause_and_counted() {
        let (runs, panics) = (Arc::new(AtomicU32::new(0)), Panics::default());
        let begun = Instant::now();
        let run = || {
            let runs = Arc::clone(&runs);
            async move {
                match runs.fetch_add(1, Ordering::Relaxed) {
                    0 => panic!("a text"),
                    1 => std::panic::panic_any(7),
                    _ => {}
                }
            }
        };
        supervise(Task::Sweep, panics.clone(), run).await;
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        assert_eq!((panics.of(Task::Sweep), panics.of(Task::Outbox)), (2, 0));
        assert!(begun.elapsed() >= FIRST_PAUSE * 3, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_not_restarted() {
        let mut runs = 0;
        let run = || {
            runs += 1;
            async {}
        };
        supervise(Task::Outbox, Panics::default(), run).await;
        assert_eq!(runs, 1);
    }

    /// Every call of a function named `spawn` in the product, by file.
    fn spawns(dir: &Path, found: &mut BTreeMap<String, usize>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                spawns(&path, found);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = product.lines().filter(|line| line.contains("spawn("));
            let count = lines.filter(|line| !line.contains("supervise(")).count();
            if count > 0 {
                let name = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
                found.insert(name.display().to_string(), count);
            }
        }
    }

    #[test]
    fn every_spawned_task_is_supervised_or_short_lived() {
        let mut found = BTreeMap::new();
        spawns(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
        // The others end with what they were spawned for. A new entry must say here why it does.
        let known = [
            // One batch each; `catch` reports its panic.
            ("batch.rs", 1),
            // The signals, which it only forwards; the metrics, which supervise their own tasks; and a check at
            // the start.
            ("command/serve.rs", 3),
            // A child process.
            ("embedded/supervisor.rs", 1),
            // One email each; its end is awaited and reported.
            ("mail/delivery.rs", 1),
            // Threads: they report the panic of a job themselves.
            ("password/workers.rs", 1),
            // One request each.
            ("routes/login.rs", 1),
            // One connection each.
            ("server.rs", 1),
            // One `BEGIN` each.
            ("store.rs", 1),
            // One export each.
            ("telemetry/collector.rs", 1),
        ];
        let known: BTreeMap<_, _> =
            known.into_iter().map(|(file, count)| (file.to_owned(), count)).collect();
        assert_eq!(found, known);
    }
}
