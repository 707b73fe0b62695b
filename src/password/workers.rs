//! Threads that only hash, one per core, behind a [`FairQueue`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::queue::{FairQueue, QueueKey};
use crate::error::{Error, Result};
use crate::metrics::Hashing;

/// The most jobs that wait, however cheap a hash is.
const MOST: usize = 1024;
/// How long a rejected caller waits for its answer. Without it, 64 clients that came back at once
/// took 22,000 answers a second, and left the threads a tenth of their time.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a waiting caller checks whether its turn can still come in time: others may have come
/// between, or hashes may take longer than before.
const CHECK: Duration = Duration::from_millis(250);
/// The threads' niceness (Linux): requests of logged-in users go before logins.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// The threads; they end when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    _open: Arc<Open>,
    pub(super) metrics: Hashing,
}

/// What callers and threads share.
struct Shared {
    threads: usize,
    /// The longest that a caller waits for its turn.
    longest: Duration,
    state: Mutex<State>,
    /// Wakes a thread when there is a job, or no more will come.
    ready: Condvar,
}

struct State {
    queue: FairQueue<Job>,
    running: usize,
    /// How long a job takes, as a moving average.
    mean: Duration,
    is_closed: bool,
}

/// Work for one caller. It returns whether the caller was still there, and the work was done.
type Job = Box<dyn FnOnce() -> bool + Send>;

/// Closes the queue when it is dropped.
#[derive(Debug)]
struct Open(Arc<Shared>);

/// A place in line, until it is dropped. A caller that goes away gives up its turn, and what its job
/// holds is dropped at once.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    key: QueueKey,
    id: u64,
    since: Instant,
}

impl Workers {
    /// One thread per core. A job is `expected` to take so long until some have been done, and waits for
    /// the `longest` time at most.
    pub(super) fn start(expected: Duration, longest: Duration) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let state =
            State { queue: FairQueue::default(), running: 0, mean: expected, is_closed: false };
        let (state, ready) = (Mutex::new(state), Condvar::new());
        let shared = Arc::new(Shared { threads, longest, state, ready });
        for n in 0..threads {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("hash-{n}"));
            if let Err(error) = thread.spawn(move || work(&shared)) {
                tracing::error!(%error, "a thread for hashing could not be started");
            }
        }
        let open = Arc::new(Open(Arc::clone(&shared)));
        Self { shared, _open: open, metrics: Hashing::default() }
    }

    /// A place in line, if its turn is expected in time. Callers take it before anything costly.
    ///
    /// # Errors
    /// `Busy` when the wait would be too long, or the queue is full.
    pub(super) async fn admit(&self, key: &QueueKey) -> Result<Place> {
        if let Some(id) = self.shared.reserve(key) {
            let (shared, key) = (Arc::clone(&self.shared), key.clone());
            return Ok(Place { shared, key, id, since: Instant::now() });
        }
        sleep(PAUSE).await;
        Err(self.shed())
    }

    fn shed(&self) -> Error {
        self.metrics.count_shed();
        Error::Busy
    }

    /// Does `work` when its turn comes.
    ///
    /// # Errors
    /// `Busy` when the turn does not come in time.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (waiting, metrics) = (self.metrics.wait(), self.metrics.clone());
        let ((start, mut started), (reply, answer)) = (oneshot::channel(), oneshot::channel());
        let job = move || {
            // The caller may go away at any time.
            let is_there = start.send(()).is_ok() && !reply.is_closed();
            is_there && {
                waiting.end();
                reply.send(metrics.time(work)).is_ok()
            }
        };
        if !place.fill(Box::new(job)) {
            return Err(self.shed());
        }
        loop {
            match timeout(place.until_check(), &mut started).await {
                Ok(Ok(())) => break,
                // The place went to a network that had less.
                Ok(Err(_)) => return Err(self.shed()),
                Err(_) if place.is_late() => return Err(self.shed()),
                Err(_) => {}
            }
        }
        answer.await.map_err(|_| Error::internal("hashing panicked"))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.ready.notify_all();
    }
}

impl Place {
    fn fill(&self, job: Job) -> bool {
        let is_filled = self.shared.state().queue.fill(self.id, job);
        self.shared.ready.notify_one();
        is_filled
    }

    fn until_check(&self) -> Duration {
        let left = self.shared.longest.saturating_sub(self.since.elapsed());
        // A thread that has taken the job is about to report it.
        left.clamp(Duration::from_millis(5), CHECK)
    }

    /// Whether the turn cannot come in time any more, even if hashes take half as long as lately: the
    /// average jumps on a busy machine, and a caller that gives up too early has waited for nothing.
    fn is_late(&self) -> bool {
        let state = self.shared.state();
        let Some(ahead) = state.queue.ahead_of(&self.key, self.id) else { return false };
        let waited = self.since.elapsed();
        waited >= self.shared.longest
            || waited + self.shared.wait(&state, ahead) / 2 > self.shared.longest
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.state().queue.remove(self.id);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, key: &QueueKey) -> Option<u64> {
        let mut state = self.state();
        // An eighth is left for hashes that take longer than expected.
        let in_time = self.longest - self.longest / 8;
        let is_in_time = self.wait(&state, state.queue.ahead_of_next(key)) <= in_time;
        let has_room = is_in_time && (state.queue.len() < MOST || state.queue.displace(key));
        has_room.then(|| state.queue.reserve(key))
    }

    /// How long a job waits that has so many others ahead in the queue.
    fn wait(&self, state: &State, ahead: usize) -> Duration {
        let before = u32::try_from(state.running + ahead).unwrap_or(u32::MAX);
        let threads = u32::try_from(self.threads).unwrap_or(u32::MAX);
        if before < threads { Duration::ZERO } else { state.mean.saturating_mul(before) / threads }
    }

    /// The next job; `None` when no more will come.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.queue.pop() {
                state.running += 1;
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts a job that ended, and how long it took unless its caller had gone: no work would make a
    /// hash look cheap.
    fn finish(&self, took: Option<Duration>) {
        let mut state = self.state();
        state.running -= 1;
        if let Some(took) = took {
            state.mean = state.mean - state.mean / 8 + took / 8;
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Shared")
            .field("threads", &self.threads)
            .field("waiting", &state.queue.len())
            .field("running", &state.running)
            .field("mean", &state.mean)
            .finish_non_exhaustive()
    }
}

fn work(shared: &Shared) {
    lower_priority();
    while let Some(job) = shared.next() {
        let start = Instant::now();
        // The thread outlives a job that panics; its caller gets an error.
        let is_done = catch_unwind(AssertUnwindSafe(job)).unwrap_or(true);
        shared.finish(is_done.then(|| start.elapsed()));
    }
}

/// Lowers the priority of this thread. Only Linux has one for each; elsewhere it is the process'.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    // What cannot be lowered is low already.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use tokio::task::{JoinHandle, JoinSet};

    use super::*;
    use crate::client::Client;

    const LONGEST: Duration = Duration::from_secs(2);

    fn start(expected_millis: u64) -> Workers {
        Workers::start(Duration::from_millis(expected_millis), LONGEST)
    }

    fn key(ip: &str) -> QueueKey {
        QueueKey::of(&Client { ip: ip.parse().ok(), ..Client::operator() })
    }

    async fn run<T: Send + 'static>(
        workers: &Workers,
        ip: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let place = workers.admit(&key(ip)).await?;
        workers.run(place, work).await
    }

    /// Gives each thread a job that ends with what is returned.
    async fn occupy(workers: &Workers) -> Vec<mpsc::Sender<()>> {
        let mut holds = vec![];
        for n in 1..=workers.shared.threads {
            let (hold, held) = mpsc::channel::<()>();
            let own = workers.clone();
            tokio::spawn(async move { run(&own, "", move || held.recv().is_err()).await });
            until(workers, |state| state.running == n).await;
            holds.push(hold);
        }
        holds
    }

    async fn until(workers: &Workers, holds: impl Fn(&State) -> bool) {
        while !holds(&workers.shared.state()) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// So many callers of a network that write down their turns.
    async fn callers(
        workers: &Workers,
        ip: &'static str,
        times: usize,
        turns: &Arc<Mutex<Vec<&'static str>>>,
    ) -> Vec<JoinHandle<Result<()>>> {
        let mut calls = vec![];
        let before = workers.shared.state().queue.len();
        for n in 1..=times {
            let (workers_of_call, turns) = (workers.clone(), Arc::clone(turns));
            let turn = move || turns.lock().unwrap().push(ip);
            calls.push(tokio::spawn(async move { run(&workers_of_call, ip, turn).await }));
            until(workers, |state| state.queue.len() == before + n).await;
        }
        calls
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_jobs_run_at_once_than_there_are_cores_and_an_aborted_call_gives_up_its_turn() {
        let workers = start(10);
        let (running, most, done) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
        );
        let hold = occupy(&workers).await;
        let waiting = workers.shared.threads * 8;
        let calls: Vec<_> = (0..waiting)
            .map(|_| {
                let (workers, running, most, done) =
                    (workers.clone(), running.clone(), most.clone(), done.clone());
                tokio::spawn(async move {
                    let work = move || {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(10));
                        running.fetch_sub(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                    };
                    run(&workers, "192.0.2.1", work).await
                })
            })
            .collect();
        until(&workers, |state| state.queue.len() == waiting).await;
        let (gone, stayed): (Vec<_>, Vec<_>) =
            calls.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
        for (_, call) in gone {
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
        // What their jobs hold is dropped before their turn would have come.
        assert_eq!(workers.shared.state().queue.len(), waiting / 2);
        drop(hold);
        let expected = stayed.len();
        for (_, call) in stayed {
            call.await.unwrap().unwrap();
        }
        assert_eq!(done.load(Ordering::SeqCst), expected);
        assert!((1..=workers.shared.threads).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn networks_are_served_in_turn() {
        let workers = start(1);
        let hold = occupy(&workers).await;
        let turns = Arc::new(Mutex::new(vec![]));
        let mut calls = callers(&workers, "192.0.2.1", 30, &turns).await;
        calls.extend(callers(&workers, "198.51.100.1", 3, &turns).await);
        drop(hold);
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let turns = turns.lock().unwrap();
        // The threads may write down neighbouring turns in another order, and one of them may be held up: they have a
        // low priority.
        let early = turns.iter().take(6 + workers.shared.threads);
        assert!(early.filter(|ip| **ip == "198.51.100.1").count() >= 2, "{turns:?}");
    }

    #[tokio::test]
    async fn a_full_queue_rejects_a_network_that_fills_it_and_serves_another() {
        let workers = start(1);
        let hold = occupy(&workers).await;
        let full = Instant::now();
        let mut calls: JoinSet<_> = (0..MOST + 20)
            .map(|_| {
                let workers = workers.clone();
                async move { run(&workers, "192.0.2.1", || ()).await }
            })
            .collect();
        for _ in 0..20 {
            let refused = calls.join_next().await.unwrap().unwrap();
            assert!(matches!(refused, Err(Error::Busy)), "{refused:?}");
        }
        let other = workers.clone();
        let other = tokio::spawn(async move { run(&other, "198.51.100.1", || 7).await });
        // The last one of the network that fills the queue loses its place.
        let displaced = calls.join_next().await.unwrap().unwrap();
        assert!(matches!(displaced, Err(Error::Busy)), "{displaced:?}");
        assert!(full.elapsed() < LONGEST, "{:?}", full.elapsed());
        drop(hold);
        assert_eq!(other.await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn a_caller_whose_turn_cannot_come_in_time_is_rejected_at_once() {
        let workers = start(600);
        let threads = workers.shared.threads;
        let hold = occupy(&workers).await;
        let turns = Arc::new(Mutex::new(vec![]));
        // By what is expected of the jobs, two rounds wait 1.2 s, and three 1.8 s.
        let early = callers(&workers, "192.0.2.1", 2 * threads, &turns).await;
        let start = Instant::now();
        assert!(matches!(run(&workers, "192.0.2.1", || ()).await, Err(Error::Busy)));
        assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
        // Another network's turn would come sooner.
        assert!(workers.admit(&key("198.51.100.1")).await.is_ok());
        drop(hold);
        for call in early {
            call.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_the_limit_for_hashes_that_take_longer_than_expected() {
        let workers = start(10);
        let _hold = occupy(&workers).await;
        let start = Instant::now();
        assert!(matches!(run(&workers, "192.0.2.1", || ()).await, Err(Error::Busy)));
        let waited = start.elapsed();
        assert!((LONGEST..LONGEST + Duration::from_millis(500)).contains(&waited), "{waited:?}");
        assert_eq!(workers.shared.state().queue.len(), 0);
    }

    #[tokio::test]
    async fn a_caller_whose_turn_others_take_is_rejected_before_the_longest_wait() {
        let workers = start(300);
        let threads = workers.shared.threads;
        let _hold = occupy(&workers).await;
        let turns = Arc::new(Mutex::new(vec![]));
        let mut first = callers(&workers, "192.0.2.1", 4 * threads, &turns).await;
        let start = Instant::now();
        for ip in ["198.51.100.1", "203.0.113.1", "2001:db8::1"] {
            callers(&workers, ip, threads, &turns).await;
        }
        let last = first.pop().unwrap().await.unwrap();
        assert!(matches!(last, Err(Error::Busy)), "{last:?}");
        assert!(start.elapsed() < LONGEST - CHECK, "{:?}", start.elapsed());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn aborted_calls_do_not_make_a_hash_look_cheap() {
        let workers = start(400);
        let hold = occupy(&workers).await;
        let turns = Arc::new(Mutex::new(vec![]));
        for call in callers(&workers, "192.0.2.1", workers.shared.threads * 2, &turns).await {
            call.abort();
            let _ = call.await;
        }
        // These take as long as is expected of them.
        sleep(Duration::from_millis(400)).await;
        drop(hold);
        until(&workers, |state| state.running == 0).await;
        let mean = workers.shared.state().mean;
        assert!(mean > Duration::from_millis(300), "{mean:?}");
    }

    #[tokio::test]
    async fn a_panic_is_reported_and_ends_no_thread() {
        let workers = start(10);
        for _ in 0..workers.shared.threads * 2 {
            let panics: Result<()> =
                run(&workers, "", || std::panic::panic_any("on purpose")).await;
            assert!(matches!(panics, Err(Error::Internal(_))));
        }
        assert_eq!(run(&workers, "", || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn the_threads_end_with_the_last_hasher() {
        let workers = start(10);
        let shared = Arc::clone(&workers.shared);
        drop(workers);
        let ended = async {
            while Arc::strong_count(&shared) > 1 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(5), ended).await.unwrap();
    }
}
