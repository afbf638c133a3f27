//! How much strangers may ask for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_core::source::Source;

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

#[cfg(test)]
mod tests {
    use super::*;

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
