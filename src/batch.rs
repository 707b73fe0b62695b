//! One statement for many requests: what is asked while the database is busy is asked together.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The most that one statement is asked.
const MOST: usize = 64;

/// Takes what is to be done, and does it with `run`, at most `at_once` times at a time. Whatever comes
/// while all of them are at work waits, and goes together. Nothing waits longer than that: what comes
/// alone is done alone. What takes `longest` is given up.
///
/// There is no limit on what waits; each request waits for one thing at a time.
pub(crate) fn start<T, F>(
    at_once: usize,
    longest: Duration,
    run: impl Fn(Vec<T>) -> F + Send + 'static,
) -> UnboundedSender<T>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, waiting) = unbounded_channel();
    tokio::spawn(gather(waiting, Arc::new(Semaphore::new(at_once)), longest, run));
    sender
}

async fn gather<T, F>(
    mut waiting: UnboundedReceiver<T>,
    places: Arc<Semaphore>,
    longest: Duration,
    run: impl Fn(Vec<T>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    // The place first: who comes while there is none joins the batch.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let mut batch = Vec::new();
        if waiting.recv_many(&mut batch, MOST).await == 0 {
            return;
        }
        tokio::spawn(hold(place, longest, run(batch)));
    }
}

/// Gives the place back however the work ends: nobody waits for a database that says nothing.
async fn hold(place: OwnedSemaphorePermit, longest: Duration, work: impl Future<Output = ()>) {
    if timeout(longest, work).await.is_err() {
        tracing::warn!("a statement for several requests was given up");
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    type Asked = (u32, oneshot::Sender<usize>);

    /// Answers how many were asked together; seven panics, and eight never ends.
    async fn answer(asked: Vec<Asked>) {
        assert!(asked.iter().all(|(number, _)| *number != 7), "seven");
        let long = asked.iter().any(|(number, _)| *number == 8);
        sleep(Duration::from_millis(if long { 60_000 } else { 20 })).await;
        let together = asked.len();
        asked.into_iter().for_each(|(_, asker)| asker.send(together).unwrap());
    }

    fn ask(batches: &UnboundedSender<Asked>, number: u32) -> oneshot::Receiver<usize> {
        let (asker, answered) = oneshot::channel();
        batches.send((number, asker)).unwrap();
        answered
    }

    #[tokio::test]
    async fn what_comes_while_all_are_at_work_goes_together() {
        let batches = start(1, Duration::from_secs(5), answer);
        let alone = ask(&batches, 0);
        sleep(Duration::from_millis(5)).await;
        let others: Vec<_> = (0..100).map(|_| ask(&batches, 0)).collect();
        assert_eq!(alone.await, Ok(1));
        let mut together = vec![];
        for other in others {
            together.push(other.await.unwrap());
        }
        assert_eq!(together, [vec![MOST; MOST], vec![100 - MOST; 100 - MOST]].concat());
    }

    #[tokio::test]
    async fn work_that_panics_or_hangs_holds_nobody_up() {
        let batches = start(1, Duration::from_millis(100), answer);
        let begun = Instant::now();
        for bad in [7, 8] {
            assert!(ask(&batches, bad).await.is_err());
            assert_eq!(ask(&batches, 0).await, Ok(1));
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
