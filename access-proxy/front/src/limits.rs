//! How much strangers may ask for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_core::Timestamp;

/// Limits of the front door.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one source: an IPv4 address, or an IPv6 /64.
    pub per_source: usize,
    /// How long a client may take to say what it wants, TLS handshakes that end here included.
    pub handshake: Duration,
    /// New connections to Auth from one source: how many at once, and how many a second after
    /// that. Auth counts by source as well; here one source is kept from making the proxy dial and
    /// sign for nothing.
    pub auth_rate: (u32, u32),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 60_000,
            per_source: 10_000,
            handshake: Duration::from_secs(10),
            auth_rate: (200, 20),
        }
    }
}

/// Counts connections against limits.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    limits: Limits,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_source: HashMap<Source, usize>,
}

/// Addresses that count as one: whoever has an IPv6 address has a whole /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    counter: Counter,
    source: Source,
}

impl Counter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, open: Arc::default() }
    }

    /// Counts a connection, or says that there are too many.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<Slot, &'static str> {
        let source = Source::from(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.limits.connections {
            return Err("connections");
        }
        let of_source = open.by_source.entry(source).or_default();
        if *of_source >= self.limits.per_source {
            return Err("per_source");
        }
        *of_source += 1;
        open.total += 1;
        Ok(Slot { counter: self.clone(), source })
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.counter.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(count) = open.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.by_source.remove(&self.source);
            }
        }
    }
}

/// Token buckets by source.
#[derive(Debug)]
pub(crate) struct Rate {
    burst: u64,
    per_second: u64,
    buckets: Mutex<HashMap<Source, Bucket>>,
}

/// Thousandths of a token, and when they were counted.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    milli: u64,
    at: Timestamp,
}

/// Sources that are remembered at once; buckets that are full again are forgotten first.
const MAX_BUCKETS: usize = 100_000;

impl Rate {
    pub(crate) fn new((burst, per_second): (u32, u32)) -> Self {
        Self {
            burst: u64::from(burst) * 1000,
            per_second: u64::from(per_second),
            buckets: Mutex::default(),
        }
    }

    /// Takes a token of a source, if it has one.
    pub(crate) fn take(&self, address: IpAddr, now: Timestamp) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let source = Source::from(address);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&source) {
            buckets.retain(|_, bucket| self.refilled(bucket, now) < self.burst);
            if buckets.len() >= MAX_BUCKETS {
                return false;
            }
        }
        let bucket = buckets.entry(source).or_insert(Bucket { milli: self.burst, at: now });
        let milli = self.refilled(bucket, now);
        let (left, taken) = match milli.checked_sub(1000) {
            Some(left) => (left, true),
            None => (milli, false),
        };
        *bucket = Bucket { milli: left, at: now };
        taken
    }

    fn refilled(&self, bucket: &Bucket, now: Timestamp) -> u64 {
        let elapsed = u64::try_from(now.since(bucket.at).as_millis()).unwrap_or(u64::MAX);
        bucket.milli.saturating_add(elapsed.saturating_mul(self.per_second)).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_what_others_need() {
        let rate = Rate::new((3, 2));
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let at = |millis: i64| Timestamp::from_millis(1_000_000 + millis);
        assert!((0..3).all(|_| rate.take(a, at(0))));
        assert!(!rate.take(a, at(0)), "the burst is spent");
        assert!(rate.take(b, at(0)), "another source has its own");
        assert!(!rate.take(a, at(499)));
        assert!(rate.take(a, at(500)), "two a second come back");
        assert!(!rate.take(a, at(500)));
    }

    #[test]
    fn sources_and_the_whole_are_limited_and_given_back() {
        let limits = Limits { connections: 3, per_source: 2, ..Limits::default() };
        let counter = Counter::new(limits);
        let [a, b]: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap()];
        let c: IpAddr = "192.0.2.1".parse().unwrap();
        let one = counter.admit(a).unwrap();
        let _two = counter.admit(b).unwrap();
        assert_eq!(counter.admit(a).unwrap_err(), "per_source", "a /64 is one source");
        let _three = counter.admit(c).unwrap();
        assert_eq!(counter.admit(c).unwrap_err(), "connections");
        drop(one);
        assert!(counter.admit(a).is_ok());
    }
}
