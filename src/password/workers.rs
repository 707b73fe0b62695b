//! Threads that do nothing but hash, as many as there are cores, behind a bounded queue.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::error::{Error, Result};
use crate::metrics::Hashing;

/// How long a caller waits for its turn at most.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Callers that wait at most, however cheap a hash is.
const QUEUE: usize = 256;
/// How long somebody who is refused waits for the answer. Without it, 64 clients that came back at once
/// took 22,000 answers a second, and left the threads a tenth of their time.
const PAUSE: Duration = Duration::from_millis(100);
/// The threads' niceness (Linux): whoever is logged in goes before who logs in.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// The threads; they end when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    queue: SyncSender<Job>,
    load: Arc<Load>,
    pub(super) metrics: Hashing,
}

/// What the threads have to do.
#[derive(Debug)]
struct Load {
    threads: usize,
    /// Jobs that wait or are at work.
    pending: AtomicUsize,
    /// How long a job takes, as a moving average in microseconds.
    mean: AtomicU64,
    /// How many of the jobs are whose.
    shares: Mutex<HashMap<String, usize>>,
}

/// A place among the jobs, until it is dropped.
struct Place {
    load: Arc<Load>,
    whose: Option<String>,
}

/// Work for one caller; it says whether the caller was still there, and the work was done.
type Job = Box<dyn FnOnce() -> bool + Send>;

impl Workers {
    /// As many threads as there are cores. A job is `expected` to take so long, until some have been
    /// done.
    pub(super) fn start(expected: Duration) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (queue, jobs) = sync_channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let mean = AtomicU64::new(micros(expected));
        let (pending, shares) = (AtomicUsize::new(0), Mutex::default());
        let load = Arc::new(Load { threads, pending, mean, shares });
        for n in 0..threads {
            let (jobs, load) = (Arc::clone(&jobs), Arc::clone(&load));
            let thread = std::thread::Builder::new().name(format!("hash-{n}"));
            if let Err(error) = thread.spawn(move || work(&jobs, &load)) {
                tracing::error!(%error, "a thread for hashing could not be started");
            }
        }
        Self { queue, load, metrics: Hashing::default() }
    }

    /// Whether somebody who comes now would get a turn in time: to be asked before anything costly.
    ///
    /// # Errors
    /// `Busy` when the queue is full, the wait would be too long, or half of all places are theirs.
    pub(super) async fn admit(&self, whose: Option<&str>) -> Result<()> {
        if self.load.has_room(whose) {
            return Ok(());
        }
        sleep(PAUSE).await;
        Err(self.shed())
    }

    fn shed(&self) -> Error {
        self.metrics.count_shed();
        Error::Busy
    }

    /// Does `work` when its turn comes. A caller that goes away before gives its turn up.
    ///
    /// # Errors
    /// As for [`Workers::admit`].
    pub(super) async fn run<T: Send + 'static>(
        &self,
        whose: Option<&str>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.admit(whose).await?;
        let place = Place::take(&self.load, whose);
        let (waiting, metrics) = (self.metrics.wait(), self.metrics.clone());
        let ((start, started), (reply, answer)) = (oneshot::channel(), oneshot::channel());
        let job = move || {
            let _place = place;
            // The caller may go away at any time.
            let is_there = start.send(()).is_ok() && !reply.is_closed();
            is_there && {
                waiting.end();
                reply.send(metrics.time(work)).is_ok()
            }
        };
        if let Err(error) = self.queue.try_send(Box::new(job)) {
            return Err(match error {
                TrySendError::Full(_) => self.shed(),
                TrySendError::Disconnected(_) => Error::internal("no thread for hashing is left"),
            });
        }
        // By what the others took it comes in time; they may take longer than that.
        let started = timeout(MAX_WAIT, started).await.map_err(|_| self.shed())?;
        started.map_err(Error::internal)?;
        answer.await.map_err(|_| Error::internal("hashing panicked"))
    }
}

impl Place {
    fn take(load: &Arc<Load>, whose: Option<&str>) -> Self {
        load.pending.fetch_add(1, Ordering::Relaxed);
        if let Some(whose) = whose {
            *load.shares().entry(whose.to_owned()).or_default() += 1;
        }
        Self { load: Arc::clone(load), whose: whose.map(str::to_owned) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.pending.fetch_sub(1, Ordering::Relaxed);
        if let Some(whose) = &self.whose {
            let mut shares = self.load.shares();
            match shares.get_mut(whose) {
                Some(share) if *share > 1 => *share -= 1,
                _ => drop(shares.remove(whose)),
            }
        }
    }
}

impl Load {
    fn has_room(&self, whose: Option<&str>) -> bool {
        let pending = self.pending.load(Ordering::Relaxed);
        let share = whose.and_then(|whose| self.shares().get(whose).copied()).unwrap_or_default();
        pending < QUEUE + self.threads && self.wait() <= MAX_WAIT && share < self.most_of_one()
    }

    /// How many jobs may be of one network: half of those that get their turn in time, so that a right
    /// password, which no limit counts, does not take all turns of others.
    fn most_of_one(&self) -> usize {
        let mean = self.mean.load(Ordering::Relaxed).max(1);
        let in_time = micros(MAX_WAIT) / mean * self.threads as u64;
        usize::try_from(in_time / 2).unwrap_or(QUEUE).min(QUEUE / 2).max(self.threads)
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a job that comes now would wait, by what the others took.
    fn wait(&self) -> Duration {
        let ahead = self.pending.load(Ordering::Relaxed) / self.threads;
        Duration::from_micros(self.mean.load(Ordering::Relaxed))
            * u32::try_from(ahead).unwrap_or(u32::MAX)
    }

    /// Counts a job that has been done. Two at once may lose one: it is an average.
    fn done(&self, took: Duration) {
        let mean = self.mean.load(Ordering::Relaxed);
        self.mean.store(mean - mean / 8 + micros(took) / 8, Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn work(jobs: &Mutex<Receiver<Job>>, load: &Load) {
    step_back();
    loop {
        // The lock is held by the one thread that waits for a job.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let start = Instant::now();
        // The thread outlives a job that panics; its caller is told.
        let done = catch_unwind(AssertUnwindSafe(job)).unwrap_or(true);
        // Nothing was done for those who had gone, which would make a hash look cheap.
        if done {
            load.done(start.elapsed());
        }
    }
}

/// Lowers the priority of this thread. Linux alone has one for each; elsewhere it is the process'.
fn step_back() {
    #[cfg(target_os = "linux")]
    // What cannot be lowered is low already.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts as many jobs as there are threads, which end with what is returned.
    fn occupy(workers: &Workers) -> Vec<std::sync::mpsc::Sender<()>> {
        (0..workers.load.threads)
            .map(|_| {
                let (hold, held) = std::sync::mpsc::channel::<()>();
                let workers = workers.clone();
                tokio::spawn(async move { workers.run(None, move || held.recv().is_err()).await });
                hold
            })
            .collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_run_at_once_than_there_are_cores_and_who_goes_away_gives_its_turn_up() {
        let workers = Workers::start(Duration::from_millis(10));
        let (running, most, done) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
        );
        let hold = occupy(&workers);
        let calls: Vec<_> = (0..workers.load.threads * 8)
            .map(|_| {
                let (workers, running, most, done) =
                    (workers.clone(), running.clone(), most.clone(), done.clone());
                tokio::spawn(async move {
                    let work = move || {
                        most.fetch_max(
                            running.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        std::thread::sleep(Duration::from_millis(10));
                        running.fetch_sub(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                    };
                    workers.run(None, work).await
                })
            })
            .collect();
        while workers.load.pending.load(Ordering::Relaxed) < workers.load.threads * 9 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (gone, stayed): (Vec<_>, Vec<_>) =
            calls.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
        for (_, call) in &gone {
            call.abort();
        }
        for (_, call) in gone {
            assert!(call.await.unwrap_err().is_cancelled());
        }
        drop(hold);
        let expected = stayed.len();
        for (_, call) in stayed {
            call.await.unwrap().unwrap();
        }
        assert_eq!(done.load(Ordering::SeqCst), expected);
        assert!((1..=workers.load.threads).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    }

    #[tokio::test]
    async fn a_full_queue_is_told_at_once() {
        let workers = Workers::start(Duration::from_millis(10));
        let _hold = occupy(&workers);
        let waiting = QUEUE + 20;
        let start = Instant::now();
        let mut calls: tokio::task::JoinSet<_> = (0..waiting)
            .map(|_| {
                let workers = workers.clone();
                async move { workers.run(None, || ()).await }
            })
            .collect();
        for _ in 0..20 {
            let refused = calls.join_next().await.unwrap().unwrap();
            assert!(matches!(refused, Err(Error::Busy)), "{refused:?}");
        }
        assert!(start.elapsed() < MAX_WAIT, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_told_at_once_and_who_did_is_told_too() {
        let workers = Workers::start(Duration::from_millis(600));
        let _hold = occupy(&workers);
        let start = Instant::now();
        let early = tokio::spawn({
            let workers = workers.clone();
            async move { workers.run(None, || ()).await }
        });
        tokio::task::yield_now().await;
        // By what is expected of the jobs, four rounds take longer than two seconds.
        workers.load.pending.fetch_add(workers.load.threads * 4, Ordering::Relaxed);
        assert!(matches!(workers.run(None, || ()).await, Err(Error::Busy)));
        assert!(start.elapsed() < MAX_WAIT);
        assert!(matches!(early.await.unwrap(), Err(Error::Busy)));
        assert!(start.elapsed() >= MAX_WAIT);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn those_who_go_away_do_not_make_a_hash_look_cheap() {
        let workers = Workers::start(Duration::from_millis(400));
        let hold = occupy(&workers);
        let gone: Vec<_> = (0..workers.load.threads * 4)
            .map(|_| {
                let workers = workers.clone();
                tokio::spawn(async move { workers.run(None, || ()).await })
            })
            .collect();
        while workers.load.pending.load(Ordering::Relaxed) < workers.load.threads * 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        gone.iter().for_each(tokio::task::JoinHandle::abort);
        for gone in gone {
            let _ = gone.await;
        }
        // These take as long as is expected of them.
        tokio::time::sleep(Duration::from_millis(400)).await;
        drop(hold);
        while workers.load.pending.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(workers.load.mean.load(Ordering::Relaxed) > 300_000, "{:?}", workers.load);
    }

    #[tokio::test]
    async fn a_panic_is_told_and_takes_no_thread_along() {
        let workers = Workers::start(Duration::from_millis(10));
        for _ in 0..workers.load.threads * 2 {
            let panics: Result<()> =
                workers.run(None, || std::panic::panic_any("on purpose")).await;
            assert!(matches!(panics, Err(Error::Internal(_))));
        }
        assert_eq!(workers.run(None, || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn one_network_has_no_more_than_half_of_all_places() {
        let workers = Workers::start(Duration::from_millis(100));
        let hold = occupy(&workers);
        let most = workers.load.most_of_one();
        assert_eq!(most, workers.load.threads * 10);
        let mut theirs: tokio::task::JoinSet<_> = (0..most + 5)
            .map(|_| {
                let workers = workers.clone();
                async move { workers.run(Some("192.0.2.0/24"), || ()).await }
            })
            .collect();
        for _ in 0..5 {
            let refused = theirs.join_next().await.unwrap().unwrap();
            assert!(matches!(refused, Err(Error::Busy)), "{refused:?}");
        }
        assert!(!workers.load.has_room(Some("192.0.2.0/24")));
        assert!(workers.load.has_room(Some("198.51.100.0/24")));
        assert!(workers.load.has_room(None));
        // Places come back with those who had them, and leave nothing behind.
        theirs.shutdown().await;
        drop(hold);
        while workers.load.pending.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(workers.load.shares().is_empty());
    }
}
