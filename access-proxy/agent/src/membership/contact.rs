//! The first contact: which cluster it is, and where its Auth is reached.

use std::sync::Arc;

use access_client::{FirstTrust, HostPort, ping, reach_any};
use access_core::ClusterName;
use access_core::time::Clock;
use tracing::debug;

use super::discover::discover;
use super::options::{AuthRoute, HostOptions};
use crate::error::AgentError;

/// What is known after the first contact. Nothing of it is trusted: whoever answers as Auth of
/// this cluster has to prove it.
pub(super) struct Contact {
    pub(super) cluster: ClusterName,
    pub(super) addresses: Vec<HostPort>,
}

/// The addresses under which Auth is reached.
pub(super) fn addresses(options: &HostOptions) -> Result<Vec<HostPort>, AgentError> {
    let (AuthRoute::Proxies(addresses) | AuthRoute::Direct(addresses)) = &options.route;
    if addresses.is_empty() { Err(AgentError::NoAddress) } else { Ok(addresses.clone()) }
}

/// Finds out the cluster's name, unless it is `known` or configured.
pub(super) async fn first(
    options: &HostOptions,
    known: Option<ClusterName>,
    clock: &Arc<dyn Clock>,
) -> Result<Contact, AgentError> {
    let addresses = addresses(options)?;
    if let Some(cluster) = known.or_else(|| options.cluster.clone()) {
        return Ok(Contact { cluster, addresses });
    }
    let cluster = reach_any(&addresses, &**clock, |address| async move {
        let told = match &options.route {
            AuthRoute::Proxies(_) => {
                let trust = FirstTrust::Pins(options.pins.clone());
                ping(&address, &trust, Arc::clone(clock)).await.map(|ping| ping.cluster_name)
            }
            AuthRoute::Direct(_) => discover(&address, &options.pins, clock).await,
        };
        told.inspect_err(|err| debug!("{address} did not tell its cluster: {err}"))
    });
    Ok(Contact { cluster: cluster.await?, addresses })
}
