//! How much callers without a certificate may ask for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use skep_proto::{Code, Error, Result};

/// Calls that one address may make per second, and at once.
const CALLS_PER_SECOND: f64 = 50.0;
const CALLS_BURST: f64 = 200.0;
/// Addresses that are told apart; all others share one allowance.
const SOURCES_MAX: usize = 4096;

/// An allowance per source address that refills with time.
#[derive(Debug, Default)]
pub(super) struct RateLimit(Mutex<HashMap<IpAddr, Allowance>>);

#[derive(Debug, Clone, Copy)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn refilled(self, now: Instant) -> Self {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * CALLS_PER_SECOND;
        Self {
            left: (self.left + gained).min(CALLS_BURST),
            at: now,
        }
    }
}

impl RateLimit {
    /// Takes one call from the allowance of `source`, or says that it is used up.
    pub fn take(&self, source: IpAddr, now: Instant) -> Result<()> {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            sources.retain(|_, allowance| allowance.refilled(now).left < CALLS_BURST);
        }
        let shared = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let key = if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            shared
        } else {
            source
        };
        let full = Allowance {
            left: CALLS_BURST,
            at: now,
        };
        let allowance = sources.entry(key).or_insert(full);
        *allowance = allowance.refilled(now);
        if allowance.left < 1.0 {
            return Err(Error::new(
                Code::Unavailable,
                format!("too many calls without a certificate from {source}"),
            )
            .hint("try again in a few seconds"));
        }
        allowance.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_from_one_address_stops_nobody_else() {
        let (limit, now) = (RateLimit::default(), Instant::now());
        let (loud, calm) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let taken = (0..1000).filter(|_| limit.take(loud, now).is_ok()).count();
        assert_eq!(taken, 200);
        assert!(limit.take(calm, now).is_ok());
        assert!(limit.take(loud, now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn the_number_of_addresses_told_apart_is_bounded() {
        let (limit, now) = (RateLimit::default(), Instant::now());
        for n in 0..10_000u32 {
            let _ = limit.take(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(limit.0.lock().unwrap().len() <= SOURCES_MAX + 1);
    }
}
