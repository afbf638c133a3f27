//! Tunnels to the cluster's proxies, and what comes through them.

mod dispatch;
mod handshake;
mod link;
mod pool;
mod proxies;
mod strangers;

pub(crate) use dispatch::{DispatchLimits, Dispatcher};
pub(crate) use pool::Pool;
pub(crate) use proxies::Proxies;
pub use strangers::{Strangers, StrangersPlace};
