//! One statement for many requests: what is asked while the database is busy is asked together.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::metrics::Panics;
use crate::supervise::{Task, catch, supervise};

/// The most that one statement is asked.
const MOST: usize = 64;
/// The most that waits: as many as there may be requests.
const WAITING: usize = 8192;

/// Takes what is to be done, and does it with `run` and a connection, at most `at_once` times at a time. Whatever comes
/// while all of them are at work, or while there is no connection, waits, and goes together; what comes
/// alone is done alone. If there is no connection in time, all that wait are told together.
///
/// What takes longer than `patience` no longer counts as at work: it may hang, and others need not. A panic is
/// counted as one of the task; it fails its own batch and no other.
pub(crate) fn start<T, C, A, F>(
    (task, panics): (Task, &Panics),
    acquire: impl Fn() -> A + Send + Sync + 'static,
    at_once: usize,
    patience: Duration,
    run: impl Fn(sqlx::Result<C>, Vec<T>) -> F + Send + Sync + 'static,
) -> Sender<T>
where
    T: Send + 'static,
    C: Send + 'static,
    A: Future<Output = sqlx::Result<C>> + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, waiting) = channel(WAITING);
    let batches = Arc::new(Batches {
        waiting: Mutex::new(waiting),
        places: Arc::new(Semaphore::new(at_once)),
        patience,
        task,
        panics: panics.clone(),
        acquire,
        run,
    });
    tokio::spawn(supervise(task, panics.clone(), move || Arc::clone(&batches).gather()));
    sender
}

/// What outlives a panic.
struct Batches<T, A, R> {
    waiting: Mutex<Receiver<T>>,
    places: Arc<Semaphore>,
    patience: Duration,
    task: Task,
    panics: Panics,
    acquire: A,
    run: R,
}

impl<T, A, R> Batches<T, A, R> {
    async fn gather<C, D, F>(self: Arc<Self>)
    where
        A: Fn() -> D,
        D: Future<Output = sqlx::Result<C>>,
        R: Fn(sqlx::Result<C>, Vec<T>) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut waiting = self.waiting.lock().await;
        // The place and the connection first: who comes while there is none joins the batch.
        while let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
            let mut batch = Vec::new();
            if waiting.recv_many(&mut batch, 1).await == 0 {
                return;
            }
            let connection = (self.acquire)().await;
            let most = if connection.is_ok() { MOST } else { WAITING };
            while batch.len() < most
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
            let (task, panics, patience) = (self.task, self.panics.clone(), self.patience);
            let work = (self.run)(connection, batch);
            let work = async move { catch(task, &panics, work).await };
            tokio::spawn(hold(place, patience, work));
        }
    }
}

/// Gives the place back however the work ends.
async fn hold(place: OwnedSemaphorePermit, patience: Duration, work: impl Future<Output = bool>) {
    let mut work = pin!(work);
    let is_late = timeout(patience, &mut work).await.is_err();
    drop(place);
    if is_late {
        work.await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    type Asked = (u32, oneshot::Sender<usize>);

    /// Answers how many were asked together; seven panics, and eight takes very long.
    async fn answer(_: sqlx::Result<()>, asked: Vec<Asked>) {
        assert!(asked.iter().all(|(number, _)| *number != 7), "seven");
        let long = asked.iter().any(|(number, _)| *number == 8);
        sleep(Duration::from_millis(if long { 60_000 } else { 20 })).await;
        let together = asked.len();
        asked.into_iter().for_each(|(_, asker)| asker.send(together).unwrap());
    }

    /// Batches, and a database that is not there.
    fn batches(patience: Duration) -> Sender<Asked> {
        batches_counting(patience, &Panics::default())
    }

    fn batches_counting(patience: Duration, panics: &Panics) -> Sender<Asked> {
        let task = (Task::SessionLookups, panics);
        start(task, async || Err(sqlx::Error::PoolTimedOut), 1, patience, answer)
    }

    async fn ask(batches: &Sender<Asked>, number: u32) -> oneshot::Receiver<usize> {
        let (asker, answered) = oneshot::channel();
        batches.send((number, asker)).await.unwrap();
        answered
    }

    #[tokio::test]
    async fn what_comes_while_all_are_at_work_goes_together() {
        let batches = batches(Duration::from_secs(5));
        let alone = ask(&batches, 0).await;
        sleep(Duration::from_millis(10)).await;
        let mut others = vec![];
        for _ in 0..100 {
            others.push(ask(&batches, 0).await);
        }
        assert_eq!(alone.await, Ok(1));
        for other in others {
            // Without a connection there is nothing that a statement would be too long for.
            assert_eq!(other.await, Ok(100));
        }
    }

    #[tokio::test]
    async fn work_that_panics_or_hangs_holds_nobody_up() {
        let panics = Panics::default();
        let batches = batches_counting(Duration::from_millis(100), &panics);
        let begun = Instant::now();
        assert!(ask(&batches, 7).await.await.is_err());
        assert_eq!(panics.of(Task::SessionLookups), 1);
        assert_eq!(ask(&batches, 0).await.await, Ok(1));
        let _hangs = ask(&batches, 8).await;
        sleep(Duration::from_millis(10)).await;
        assert_eq!(ask(&batches, 0).await.await, Ok(1));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_panic_while_a_batch_is_gathered_fails_that_batch_and_no_later_one() {
        let (panics, calls) = (Panics::default(), Arc::new(AtomicU32::new(0)));
        let acquire = {
            let calls = Arc::clone(&calls);
            move || {
                assert!(calls.fetch_add(1, Ordering::Relaxed) > 0, "the first");
                std::future::ready(Err(sqlx::Error::PoolTimedOut))
            }
        };
        let patience = Duration::from_secs(5);
        let batches = start((Task::Pings, &panics), acquire, 1, patience, answer);
        assert!(ask(&batches, 0).await.await.is_err());
        assert_eq!(ask(&batches, 0).await.await, Ok(1));
        assert_eq!(panics.of(Task::Pings), 1);
    }
}
