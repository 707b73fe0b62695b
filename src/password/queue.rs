//! The order of turns: fair queueing by network.
//!
//! Each network has a queue, and the queues take turns, so that one network that logs in without pause
//! costs others one turn a round. An IPv6 site (/48) holds 256 networks (/56) and takes turns as one;
//! its networks take turns within it. A backend that logs in many people has a queue of its own.

use std::collections::VecDeque;

use crate::client::Client;

/// Whose turn it is: the network of a client, within its site. The default is the service itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueKey {
    site: String,
    network: String,
}

impl QueueKey {
    /// The queue of a client.
    #[must_use]
    pub fn of(client: &Client) -> Self {
        let address = || client.ip.map(|ip| ip.to_string());
        let network = if client.is_backend { address() } else { client.network() };
        let network = network.unwrap_or_default();
        let site = client.site().filter(|_| !client.is_backend);
        Self { site: site.unwrap_or_else(|| network.clone()), network }
    }
}

/// Places in line. A place is reserved before its job is known, and keeps its turn until then.
#[derive(Debug)]
pub(super) struct FairQueue<J> {
    sites: VecDeque<Site<J>>,
    next_id: u64,
}

#[derive(Debug)]
struct Site<J> {
    name: String,
    networks: VecDeque<Network<J>>,
}

#[derive(Debug)]
struct Network<J> {
    name: String,
    places: VecDeque<Reserved<J>>,
}

#[derive(Debug)]
struct Reserved<J> {
    id: u64,
    job: Option<J>,
}

impl<J> Default for FairQueue<J> {
    fn default() -> Self {
        Self { sites: VecDeque::new(), next_id: 0 }
    }
}

impl<J> FairQueue<J> {
    /// How many places there are.
    pub(super) fn len(&self) -> usize {
        self.sites.iter().map(Site::len).sum()
    }

    /// Adds a place at the end of a network's queue, and returns its id.
    pub(super) fn reserve(&mut self, key: &QueueKey) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let site = match self.sites.iter().position(|site| site.name == key.site) {
            Some(index) => &mut self.sites[index],
            None => {
                self.sites.push_back_mut(Site { name: key.site.clone(), networks: VecDeque::new() })
            }
        };
        let network = match site.networks.iter().position(|network| network.name == key.network) {
            Some(index) => &mut site.networks[index],
            None => site
                .networks
                .push_back_mut(Network { name: key.network.clone(), places: VecDeque::new() }),
        };
        network.places.push_back(Reserved { id, job: None });
        id
    }

    /// Gives a place its job; `false` if the place was lost.
    pub(super) fn fill(&mut self, id: u64, job: J) -> bool {
        let networks = self.sites.iter_mut().flat_map(|site| &mut site.networks);
        let place = networks.flat_map(|network| &mut network.places).find(|place| place.id == id);
        place.map(|place| place.job = Some(job)).is_some()
    }

    /// Removes a place, if it is still there.
    pub(super) fn remove(&mut self, id: u64) {
        for site in &mut self.sites {
            for network in &mut site.networks {
                network.places.retain(|place| place.id != id);
            }
            site.networks.retain(|network| !network.places.is_empty());
        }
        self.sites.retain(|site| !site.networks.is_empty());
    }

    /// Takes the next job whose turn it is. Its site and its network go to the end of their rounds.
    pub(super) fn pop(&mut self) -> Option<J> {
        let ready =
            |network: &Network<J>| network.places.iter().position(|place| place.job.is_some());
        let (s, n, p) = self.sites.iter().enumerate().find_map(|(s, site)| {
            let mut networks = site.networks.iter().enumerate();
            networks.find_map(|(n, network)| ready(network).map(|p| (s, n, p)))
        })?;
        let mut site = self.sites.remove(s)?;
        let mut network = site.networks.remove(n)?;
        let place = network.places.remove(p);
        if !network.places.is_empty() {
            site.networks.push_back(network);
        }
        if !site.networks.is_empty() {
            self.sites.push_back(site);
        }
        place?.job
    }

    /// Removes the last place of the site with most of them, if that has more than another place would
    /// give to the site of `key`. `false` if it has not.
    pub(super) fn displace(&mut self, key: &QueueKey) -> bool {
        let own = self.site(key).map_or(0, Site::len);
        let longest = self.sites.iter_mut().max_by_key(|site| site.len());
        let Some(longest) = longest.filter(|site| site.len() > own + 1) else { return false };
        let network = longest.networks.iter_mut().max_by_key(|network| network.places.len());
        network.is_some_and(|network| network.places.pop_back().is_some())
    }

    /// How many places get their turn before another one of a network would.
    pub(super) fn ahead_of_next(&self, key: &QueueKey) -> usize {
        let networks = self.site(key).map(|site| &site.networks);
        let own = networks.and_then(|networks| networks.iter().find(|own| own.name == key.network));
        self.ahead(key, own.map_or(0, |network| network.places.len()))
    }

    /// How many places get their turn before this one; `None` if it has had it.
    pub(super) fn ahead_of(&self, key: &QueueKey, id: u64) -> Option<usize> {
        let networks = &self.site(key)?.networks;
        let own = networks.iter().find(|network| network.name == key.network)?;
        let index = own.places.iter().position(|place| place.id == id)?;
        Some(self.ahead(key, index))
    }

    /// How many places get their turn before the one that has `index` others of its network before it.
    fn ahead(&self, key: &QueueKey, index: usize) -> usize {
        let networks = self.site(key).into_iter().flat_map(|site| &site.networks);
        let others = networks.filter(|network| network.name != key.network);
        let in_site = index + others.map(|other| other.places.len().min(index + 1)).sum::<usize>();
        let others = self.sites.iter().filter(|site| site.name != key.site);
        in_site + others.map(|other| other.len().min(in_site + 1)).sum::<usize>()
    }

    fn site(&self, key: &QueueKey) -> Option<&Site<J>> {
        self.sites.iter().find(|site| site.name == key.site)
    }
}

impl<J> Site<J> {
    fn len(&self) -> usize {
        self.networks.iter().map(|network| network.places.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ip: &str) -> QueueKey {
        QueueKey::of(&Client { ip: ip.parse().ok(), ..Client::operator() })
    }

    fn push(queue: &mut FairQueue<String>, ip: &str, times: usize) {
        for _ in 0..times {
            let id = queue.reserve(&key(ip));
            assert!(queue.fill(id, ip.to_owned()));
        }
    }

    fn turns(queue: &mut FairQueue<String>) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn networks_take_turns_however_many_jobs_one_has() {
        let mut queue = FairQueue::default();
        push(&mut queue, "192.0.2.1", 5);
        push(&mut queue, "198.51.100.1", 2);
        let turns = turns(&mut queue);
        let expected = ["192.0.2.1", "198.51.100.1", "192.0.2.1", "198.51.100.1"];
        assert_eq!(turns[..4], expected);
        assert_eq!((turns.len(), queue.len()), (7, 0));
    }

    #[test]
    fn the_networks_of_one_ipv6_site_share_its_turns() {
        let mut queue = FairQueue::default();
        push(&mut queue, "2001:db8::1", 40);
        for network in 1..40 {
            push(&mut queue, &format!("2001:db8:0:{network}00::1"), 1);
        }
        push(&mut queue, "192.0.2.1", 4);
        let turns = turns(&mut queue);
        let of_another = turns.iter().take(8).filter(|turn| *turn == "192.0.2.1").count();
        assert_eq!(of_another, 4, "{turns:?}");
        // And no network of the site has two turns before each has had one.
        assert_eq!(turns.iter().take(44).filter(|turn| *turn == "2001:db8::1").count(), 1);
    }

    #[test]
    fn the_turns_ahead_are_those_that_are_taken() {
        let mut queue = FairQueue::default();
        push(&mut queue, "192.0.2.1", 10);
        push(&mut queue, "2001:db8::1", 3);
        push(&mut queue, "2001:db8:0:100::1", 1);
        for (ip, expected) in [("203.0.113.1", 2), ("2001:db8::1", 9), ("192.0.2.1", 14)] {
            assert_eq!(queue.ahead_of_next(&key(ip)), expected, "{ip}");
            let id = queue.reserve(&key(ip));
            assert_eq!(queue.ahead_of(&key(ip), id), Some(expected));
            queue.remove(id);
            assert_eq!(queue.ahead_of(&key(ip), id), None);
        }
        push(&mut queue, "203.0.113.1", 1);
        let before = turns(&mut queue).iter().position(|turn| turn == "203.0.113.1").unwrap();
        assert_eq!(before, 2);
    }

    #[test]
    fn a_place_without_a_job_keeps_its_turn_and_holds_up_nobody() {
        let mut queue = FairQueue::default();
        let waiting = queue.reserve(&key("192.0.2.1"));
        push(&mut queue, "192.0.2.1", 1);
        push(&mut queue, "198.51.100.1", 2);
        assert_eq!(queue.pop().unwrap(), "192.0.2.1");
        assert_eq!(queue.pop().unwrap(), "198.51.100.1");
        assert!(queue.fill(waiting, "late".to_owned()));
        assert_eq!(turns(&mut queue), ["late", "198.51.100.1"]);
    }

    #[test]
    fn a_full_queue_makes_room_for_those_that_have_less() {
        let mut queue = FairQueue::default();
        push(&mut queue, "192.0.2.1", 3);
        assert!(!queue.displace(&key("192.0.2.9")), "its own network has most");
        assert!(queue.displace(&key("198.51.100.1")));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn a_backend_has_its_own_queue() {
        let browser = Client { ip: "10.0.0.7".parse().ok(), ..Client::operator() };
        let backend = Client { is_backend: true, ..browser.clone() };
        let other = Client { ip: "10.0.0.8".parse().ok(), ..backend.clone() };
        assert_ne!(QueueKey::of(&browser), QueueKey::of(&backend));
        assert_ne!(QueueKey::of(&other), QueueKey::of(&backend));
        assert_eq!(QueueKey::of(&Client::operator()), QueueKey::default());
    }
}
