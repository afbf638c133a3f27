//! Where clients come from, and how much one of these places may have.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use crate::Timestamp;

/// Addresses that count as one: whoever has an IPv6 address has a whole /64. Clients whose address
/// is not known are one source together.
///
/// ```
/// use access_core::source::Source;
/// let of = |address: &str| Source::from(address.parse::<std::net::IpAddr>().unwrap());
/// assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
/// assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
/// assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(Network);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    V6(u64),
    Unknown,
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => Network::V4(v4.to_bits()),
            IpAddr::V6(v6) => Network::V6((v6.to_bits() >> 64) as u64),
        })
    }
}

impl From<Option<SocketAddr>> for Source {
    fn from(client: Option<SocketAddr>) -> Self {
        client.map_or(Self(Network::Unknown), |client| client.ip().into())
    }
}

/// A rate for each source, with a burst: token buckets, of a bounded number of sources.
///
/// ```
/// use access_core::Timestamp;
/// use access_core::source::Rate;
/// # let address: std::net::IpAddr = [192, 0, 2, 1].into();
/// let rate = Rate::new(1, 1);
/// let now = Timestamp::from_secs(7);
/// assert!(rate.take(address, now));
/// assert!(!rate.take(address, now));
/// ```
#[derive(Debug)]
pub struct Rate {
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
    /// How many a source may have at once, and how many a second after that.
    pub fn new(burst: u32, per_second: u32) -> Self {
        Self {
            burst: u64::from(burst) * 1000,
            per_second: u64::from(per_second),
            buckets: Mutex::default(),
        }
    }

    /// How many events a stranger may leave: what anybody can cause without having proved anything
    /// must not bury what others do.
    pub fn of_strangers_events() -> Self {
        Self::new(10, 1)
    }

    /// Takes a token of a source, if it has one.
    pub fn take(&self, source: impl Into<Source>, now: Timestamp) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let source = source.into();
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

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    #[test]
    fn one_source_cannot_take_what_others_need() {
        let rate = Rate::new(3, 2);
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!((0..3).all(|_| rate.take(a, at(0))));
        assert!(!rate.take(a, at(0)), "the burst is spent");
        assert!(rate.take(b, at(0)), "another source has its own");
        assert!(rate.take(None, at(0)), "so have those that are not known");
        assert!(!rate.take(a, at(499)));
        assert!(rate.take(a, at(500)), "two a second come back");
        assert!(!rate.take(a, at(500)));
    }

    #[test]
    fn memory_is_bounded_and_given_to_who_comes_later() {
        let rate = Rate::new(2, 1);
        let source = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        assert!((0..MAX_BUCKETS).all(|n| rate.take(source(n), at(0))));
        assert!(!rate.take(source(MAX_BUCKETS), at(0)), "all are in use");
        assert!(rate.take(source(0), at(0)), "those that are known have what is theirs");
        assert!(rate.take(source(MAX_BUCKETS), at(1000)), "most are full again");
        assert_eq!(rate.buckets.lock().unwrap().len(), 2);
    }
}
