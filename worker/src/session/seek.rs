//! In which order, and how often, managers are asked whether they lead. At
//! first often, since a new leader is there within some tens of milliseconds;
//! then more and more rarely. A manager that names the leader is believed once.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt as _;

/// How long a search counts as young.
const YOUNG: Duration = Duration::from_secs(2);
/// Between two questions to one manager while the search is young.
const YOUNG_WAIT: (Duration, Duration) = (Duration::from_millis(15), Duration::from_millis(35));
/// The first and the longest wait after that.
const OLD_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Managers beyond the first are asked up to this much later at the start.
const SPREAD: Duration = Duration::from_millis(10);

/// One search for the leader.
#[derive(Debug)]
pub struct Seek {
    /// Address to how often it was asked since the search is old.
    managers: BTreeMap<String, u32>,
    first: Vec<(String, Duration)>,
    /// Addresses that a hint sent us to, with how often.
    hinted: BTreeMap<String, u32>,
}

/// How often a hint to one address is followed at once, per search.
const HINTS_MAX: u32 = 20;

impl Seek {
    /// A search over the last leader, the managers known, and the seeds.
    pub fn new(leader: &str, managers: &[String], seeds: &[String]) -> Self {
        let mut order: Vec<String> = Vec::new();
        let all = std::iter::once(leader)
            .chain(managers.iter().map(String::as_str))
            .chain(seeds.iter().map(String::as_str));
        for addr in all {
            if !addr.is_empty() && !order.iter().any(|known| known == addr) {
                order.push(addr.to_owned());
            }
        }
        let mut random = rand::rng();
        let mut first = Vec::new();
        for (index, addr) in order.iter().enumerate() {
            let wait = if index == 0 {
                Duration::ZERO
            } else {
                random.random_range(Duration::ZERO..=SPREAD)
            };
            first.push((addr.clone(), wait));
        }
        Self {
            managers: order.into_iter().map(|addr| (addr, 0)).collect(),
            first,
            hinted: BTreeMap::new(),
        }
    }

    /// Whom to ask at the start, and after what wait.
    pub fn first(&self) -> Vec<(String, Duration)> {
        self.first.clone()
    }

    /// Whether it is one of the managers searched.
    pub fn knows(&self, addr: &str) -> bool {
        self.managers.contains_key(addr)
    }

    /// How long to wait before `addr` is asked again; `None` for an address
    /// that is known from a hint only. `hopeful`: its answer may be another one
    /// any moment.
    pub fn again(&mut self, addr: &str, hopeful: bool, elapsed: Duration) -> Option<Duration> {
        let asked = self.managers.get_mut(addr)?;
        let mut random = rand::rng();
        if hopeful && elapsed < YOUNG {
            return Some(random.random_range(YOUNG_WAIT.0..=YOUNG_WAIT.1));
        }
        let most = OLD_WAIT
            .0
            .saturating_mul(1_u32.checked_shl(*asked).unwrap_or(u32::MAX))
            .min(OLD_WAIT.1);
        *asked = asked.saturating_add(1).min(16);
        Some(random.random_range(most / 2..=most))
    }

    /// Whether to ask `addr` at once because another manager named it.
    pub fn follows(&mut self, addr: &str) -> bool {
        if self.hinted.len() >= 64 && !self.hinted.contains_key(addr) {
            return false;
        }
        let times = self.hinted.entry(addr.to_owned()).or_default();
        *times += 1;
        *times <= HINTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(items: &[&str]) -> Vec<String> {
        items.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn the_last_leader_is_asked_first_and_nobody_twice() {
        let seek = Seek::new("b:1", &addrs(&["a:1", "b:1"]), &addrs(&["a:1", "c:1"]));
        let first = seek.first();
        assert_eq!(first[0], ("b:1".to_owned(), Duration::ZERO));
        assert_eq!(first.len(), 3);
        assert!(first.iter().all(|(_, wait)| *wait <= SPREAD));
    }

    #[test]
    fn a_young_search_asks_often_and_an_old_one_rarely() {
        let mut seek = Seek::new("", &addrs(&["a:1"]), &[]);
        let young = seek.again("a:1", true, Duration::from_millis(100)).unwrap();
        assert!(young <= YOUNG_WAIT.1);
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            last = seek.again("a:1", true, Duration::from_secs(60)).unwrap();
            assert!(last <= OLD_WAIT.1);
        }
        assert!(last >= OLD_WAIT.1 / 2, "{last:?}");
        assert_eq!(seek.again("x:1", true, Duration::ZERO), None);
    }

    #[test]
    fn a_refusal_that_stands_is_not_asked_for_often() {
        let mut seek = Seek::new("", &addrs(&["a:1"]), &[]);
        let wait = seek.again("a:1", false, Duration::ZERO).unwrap();
        assert!(wait > YOUNG_WAIT.1, "{wait:?}");
    }

    #[test]
    fn managers_that_name_each_other_do_not_make_a_storm() {
        let mut seek = Seek::new("", &addrs(&["a:1"]), &[]);
        let followed = (0..1000).filter(|_| seek.follows("b:1")).count();
        assert_eq!(followed, HINTS_MAX as usize);
    }
}
