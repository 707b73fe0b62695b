//! How many bytes the bodies of requests may hold in memory, all of them and those of one network.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use prometheus_client::metrics::counter::Counter;

use crate::error::{Error, Result};

/// Bytes that all bodies together may hold; a body has a few hundred in practice. README.md and
/// deploy/kubernetes.yaml state the memory that follows.
const BUDGET: usize = 32 * 1024 * 1024;
/// Bytes of the budget that the clients of one network may hold.
const SHARE: usize = BUDGET / 4;
/// How often a full budget is logged at most.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The bytes that bodies hold, of all requests and by network.
#[derive(Clone, Debug, Default)]
pub struct BodyBudget {
    held: Arc<Mutex<Held>>,
    rejected: Counter,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_network: HashMap<IpNet, usize>,
    warned: Option<Instant>,
}

/// What the body of one request holds of the budget, until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Reservation(Arc<Part>);

#[derive(Debug)]
struct Part {
    budget: BodyBudget,
    network: Option<IpNet>,
    bytes: AtomicUsize,
}

impl BodyBudget {
    /// An empty budget, which counts the requests that it rejects.
    #[must_use]
    pub fn new(rejected: Counter) -> Self {
        Self { rejected, ..Self::default() }
    }

    /// Nothing yet, for a client of this network; without one only the whole budget counts.
    pub(crate) fn reserve(&self, network: Option<IpNet>) -> Reservation {
        Reservation(Arc::new(Part { budget: self.clone(), network, bytes: AtomicUsize::new(0) }))
    }

    /// The bytes that bodies hold now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.change(|held| held.total)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        // Nothing in a change panics half-way.
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reservation {
    /// Reserves as many bytes as the body is about to hold.
    ///
    /// # Errors
    /// 503, when the budget or the share of the network is exhausted.
    pub(crate) fn grow_to(&self, bytes: usize) -> Result<()> {
        let Part { budget, network, bytes: reserved } = &*self.0;
        budget.change(|held| {
            let more = bytes.saturating_sub(reserved.load(Ordering::Relaxed));
            let of_network = network.map(|network| held.by_network.entry(network).or_default());
            let is_over_share = of_network.as_ref().is_some_and(|held| **held + more > SHARE);
            if is_over_share || held.total + more > BUDGET {
                held.warn(is_over_share.then_some(*network).flatten());
                budget.rejected.inc();
                return Err(Error::TooManyBodies);
            }
            if let Some(of_network) = of_network {
                *of_network += more;
            }
            held.total += more;
            reserved.fetch_add(more, Ordering::Relaxed);
            Ok(())
        })
    }
}

impl Held {
    fn warn(&mut self, network: Option<IpNet>) {
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            let (held, network) = (self.total, network.map(tracing::field::display));
            tracing::warn!(
                held,
                network,
                "too many request bodies are in progress; more are rejected with 503 busy"
            );
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.budget.change(|held| {
            held.total -= bytes;
            if let Some(network) = self.network
                && let Some(of_network) = held.by_network.get_mut(&network)
            {
                *of_network -= bytes;
                if *of_network == 0 {
                    held.by_network.remove(&network);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Option<IpNet> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_network_holds_at_most_a_quarter_of_the_budget() {
        let budget = BodyBudget::default();
        let (first, second) = (network("192.0.2.0/24"), network("198.51.100.0/24"));
        let large = budget.reserve(first);
        large.grow_to(SHARE - 10).unwrap();
        let small = budget.reserve(first);
        small.grow_to(10).unwrap();
        assert_eq!(small.grow_to(11).unwrap_err().code(), "busy");
        budget.reserve(second).grow_to(SHARE).unwrap();
        drop(large);
        small.grow_to(11).unwrap();
    }

    #[test]
    fn all_networks_together_hold_at_most_the_budget() {
        let budget = BodyBudget::default();
        let held: Vec<_> =
            (0..4).map(|i| budget.reserve(network(&format!("192.0.{i}.0/24")))).collect();
        for reservation in &held {
            reservation.grow_to(SHARE).unwrap();
        }
        let last = budget.reserve(network("198.51.100.0/24"));
        assert!(last.grow_to(1).is_err() && budget.reserve(None).grow_to(1).is_err());
        drop(held);
        // A trusted backend has no network, and no share.
        budget.reserve(None).grow_to(BUDGET).unwrap();
        last.grow_to(1).unwrap();
    }

    #[test]
    fn what_was_reserved_is_returned_once_and_no_network_is_remembered() {
        let budget = BodyBudget::default();
        let reservation = budget.reserve(network("192.0.2.0/24"));
        let clone = reservation.clone();
        for bytes in [100, 50, 200] {
            reservation.grow_to(bytes).unwrap();
        }
        assert_eq!(budget.held(), 200);
        drop(reservation);
        assert_eq!(budget.held(), 200);
        drop(clone);
        let left = budget.change(|held| (held.total, held.by_network.len()));
        assert_eq!(left, (0, 0));
        let rejected = budget.reserve(network("192.0.2.0/24"));
        rejected.grow_to(BUDGET).unwrap_err();
        drop(rejected);
        assert_eq!(budget.change(|held| held.by_network.len()), 0);
    }
}
