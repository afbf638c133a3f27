//! Which proxies hold a tunnel of ours at the moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use access_client::HostPort;
use access_core::HostId;
use metrics::gauge;

/// The proxies with a tunnel, by the id that their certificate proved. A proxy that is known under
/// several addresses gets one tunnel all the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    held: Arc<Mutex<HashMap<HostId, Held>>>,
}

#[derive(Debug)]
struct Held {
    address: HostPort,
    /// Over the same address a new tunnel may stand before the old one is given up.
    claims: usize,
}

/// A proxy's entry; it lasts until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    proxies: Proxies,
    proxy: HostId,
}

impl Proxies {
    /// Takes a proxy for an address, unless it is held over another one: then says which.
    pub(crate) fn claim(&self, proxy: HostId, address: &HostPort) -> Result<Claim, HostPort> {
        let mut held = self.lock();
        match held.get_mut(&proxy) {
            Some(other) if other.address != *address => return Err(other.address.clone()),
            Some(same) => same.claims += 1,
            None => {
                held.insert(proxy.clone(), Held { address: address.clone(), claims: 1 });
            }
        }
        gauge!("access_agent_tunnels").set(held.len() as f64);
        Ok(Claim { proxies: self.clone(), proxy })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HostId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = self.proxies.lock();
        if let Some(entry) = held.get_mut(&self.proxy) {
            entry.claims -= 1;
            if entry.claims == 0 {
                held.remove(&self.proxy);
            }
        }
        gauge!("access_agent_tunnels").set(held.len() as f64);
    }
}
