//! How many clients may be here at once that have not authenticated yet.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use access_core::source::Source;
use metrics::gauge;

/// Bounds what strangers can take, so that there is room left for those who are none.
#[derive(Debug)]
pub struct Strangers {
    most: usize,
    most_per_address: usize,
    here: Mutex<Here>,
}

#[derive(Debug, Default)]
struct Here {
    all: usize,
    by_address: HashMap<Source, usize>,
}

/// A stranger's place, free again when this is dropped.
#[derive(Debug)]
pub struct StrangersPlace {
    of: Arc<Strangers>,
    address: Option<Source>,
}

impl Strangers {
    /// Room for so many, and for so many from one address.
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, here: Mutex::default() })
    }

    /// A place for a client from this address.
    ///
    /// # Errors
    /// Why there is none.
    pub fn admit(
        self: &Arc<Self>,
        from: Option<SocketAddr>,
    ) -> Result<StrangersPlace, &'static str> {
        let address = from.map(|from| Source::from(from.ip()));
        let mut here = self.lock();
        if here.all >= self.most {
            return Err("too many clients that have not authenticated");
        }
        if let Some(address) = address {
            let from_there = here.by_address.entry(address).or_default();
            if *from_there >= self.most_per_address {
                return Err("too many clients from one address that have not authenticated");
            }
            *from_there += 1;
        }
        here.all += 1;
        gauge!("access_agent_unauthenticated_streams").increment(1);
        Ok(StrangersPlace { of: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StrangersPlace {
    fn drop(&mut self) {
        let mut here = self.of.lock();
        here.all = here.all.saturating_sub(1);
        if let Some(address) = self.address
            && let Some(from_there) = here.by_address.get_mut(&address)
        {
            *from_there = from_there.saturating_sub(1);
            if *from_there == 0 {
                here.by_address.remove(&address);
            }
        }
        gauge!("access_agent_unauthenticated_streams").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(address.parse().unwrap(), 7))
    }

    #[test]
    fn places_are_bounded_by_address_and_in_all() {
        let strangers = Strangers::new(5, 2);
        let mut here: Vec<_> =
            (0..2).map(|_| strangers.admit(from("192.0.2.1")).unwrap()).collect();
        let err = strangers.admit(from("::ffff:192.0.2.1")).unwrap_err();
        assert!(err.contains("one address"), "{err}");
        here.push(strangers.admit(from("2001:db8::1")).unwrap());
        here.push(strangers.admit(from("2001:db8::2:0:0:1")).unwrap());
        assert!(strangers.admit(from("2001:db8::3")).is_err());
        here.push(strangers.admit(None).unwrap());
        let err = strangers.admit(from("192.0.2.2")).unwrap_err();
        assert!(!err.contains("one address"), "{err}");
        here.remove(0);
        here.push(strangers.admit(from("192.0.2.1")).unwrap());
        drop(here);
        let here = strangers.lock();
        assert_eq!((here.all, here.by_address.len()), (0, 0), "nothing is kept of who has gone");
    }
}
