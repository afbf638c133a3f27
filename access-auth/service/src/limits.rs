//! Limits on what can be tried: token buckets, of a bounded number of keys in memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use access_core::Timestamp;

use crate::error::{Error, Result};

/// The most keys that are remembered at once.
const MAX_KEYS: usize = 20_000;

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How many may come at once.
    pub burst: u32,
    /// How many more each second.
    pub per_second: f64,
}

impl Rate {
    /// A rate.
    pub const fn new(burst: u32, per_second: f64) -> Self {
        Self { burst, per_second }
    }
}

/// A token bucket for each key.
pub(crate) struct Buckets<K> {
    rate: Rate,
    levels: Mutex<HashMap<K, (f64, Timestamp)>>,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, levels: Mutex::default() }
    }

    /// Takes one token.
    pub(crate) fn take(&self, key: &K, now: Timestamp) -> Result<()> {
        let burst = f64::from(self.rate.burst);
        let refilled = |(level, at): (f64, Timestamp)| {
            (level + now.since(at).as_secs_f64() * self.rate.per_second).min(burst)
        };
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        if levels.len() >= MAX_KEYS && !levels.contains_key(key) {
            // Those that are full again need not be remembered.
            levels.retain(|_, level| refilled(*level) < burst);
            if levels.len() >= MAX_KEYS {
                return Err(limited());
            }
        }
        let level = levels.get(key).map_or(burst, |level| refilled(*level));
        if level < 1.0 {
            levels.insert(key.clone(), (level, now));
            return Err(limited());
        }
        levels.insert(key.clone(), (level - 1.0, now));
        Ok(())
    }
}

fn limited() -> Error {
    Error::Limited("too many requests".into())
}

/// What counts as one source: an IPv4 address, or the /64 network of an IPv6 address, which one
/// subscriber usually has to themselves.
pub(crate) fn source_key(address: Option<IpAddr>) -> IpAddr {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(address)) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        Some(address) => address,
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let buckets = Buckets::new(Rate::new(2, 1.0));
        assert!(buckets.take(&"a", at(0)).is_ok() && buckets.take(&"a", at(0)).is_ok());
        assert!(buckets.take(&"a", at(500)).is_err());
        assert!(buckets.take(&"b", at(500)).is_ok());
        assert!(buckets.take(&"a", at(1500)).is_ok());
        assert!(buckets.take(&"a", at(1500)).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let buckets = Buckets::new(Rate::new(1, 0.1));
        for n in 0..MAX_KEYS + 10 {
            let _ = buckets.take(&n, at(0));
        }
        assert!(buckets.levels.lock().unwrap().len() <= MAX_KEYS);
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let key = |text: &str| source_key(Some(text.parse().unwrap()));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:203.0.113.7"), key("203.0.113.7"));
    }
}
