//! A link to each address that is known, as they come and go.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use access_client::HostPort;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::link::{LinkParts, hold};
use super::{Dispatcher, Proxies};
use crate::membership::Membership;

/// The most addresses that are dialled.
const MAX_ADDRESSES: usize = 64;

/// Links to all proxies.
pub(crate) struct Pool {
    parts: Arc<LinkParts>,
}

impl Pool {
    pub(crate) fn new(
        membership: Arc<Membership>,
        dispatcher: Arc<Dispatcher>,
        proxies: Proxies,
    ) -> Self {
        Self { parts: Arc::new(LinkParts { membership, dispatcher, proxies }) }
    }

    /// Holds a tunnel to each address until `stop`; then asks the proxies to open no more, and
    /// returns. What is open goes on.
    pub(crate) async fn run(
        self,
        mut addresses: watch::Receiver<BTreeSet<HostPort>>,
        stop: CancellationToken,
    ) {
        let mut links: HashMap<HostPort, CancellationToken> = HashMap::new();
        let mut tasks = JoinSet::new();
        loop {
            let wanted: BTreeSet<HostPort> =
                addresses.borrow_and_update().iter().take(MAX_ADDRESSES).cloned().collect();
            links.retain(|address, link| {
                let keep = wanted.contains(address);
                if !keep {
                    info!(%address, "the proxy is no more");
                    link.cancel();
                }
                keep
            });
            for address in wanted {
                links.entry(address.clone()).or_insert_with(|| {
                    let link = stop.child_token();
                    tasks.spawn(hold(Arc::clone(&self.parts), address, link.clone()));
                    link
                });
            }
            tokio::select! {
                changed = addresses.changed() => {
                    if changed.is_err() {
                        // Nobody learns of more; those that are known stay.
                        stop.cancelled().await;
                        break;
                    }
                }
                Some(_) = tasks.join_next() => {}
                () = stop.cancelled() => break,
            }
        }
        while tasks.join_next().await.is_some() {}
    }
}
