//! Reach over tunnels, for what the proxy itself leads on: the SSH jump host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use access_core::gate::{Guarded, Permit};
use access_core::policy::{Action, Target};
use access_core::reach::{BoxedStream, Process, ProcessRequest, Reach, ReachError};
use access_core::resource::{DnsResource, dns_label};
use access_tunnel::Flavour;
use async_trait::async_trait;

use crate::tunnels::{Tunnels, new_trace_id};

/// Reaches resources through the tunnels of this proxy. What it dials goes on to the agent, whose
/// own gate decides over the login: a permit to [see](Action::See) the resource is enough.
#[derive(Debug)]
pub struct TunnelReach {
    tunnels: Arc<Tunnels>,
}

impl TunnelReach {
    /// Reach through these tunnels.
    pub fn new(tunnels: Arc<Tunnels>) -> Self {
        Self { tunnels }
    }
}

#[async_trait]
impl Reach for TunnelReach {
    async fn dial(&self, permit: &Permit) -> Result<Guarded<BoxedStream>, ReachError> {
        let (Action::See, Target::Resource(resource)) = (permit.action(), permit.target()) else {
            return Err(ReachError::NotPermitted("a connection through a tunnel"));
        };
        let target = DnsResource { kind: resource.id.kind, label: dns_label(&resource.id.name) };
        let ip = permit.context().client_addr.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let (trace_bytes, _) = new_trace_id();
        let stream = self
            .tunnels
            .open(&target, Flavour::Raw, SocketAddr::new(ip, 0), trace_bytes)
            .await
            .ok_or_else(|| ReachError::Io {
                what: format!("no agent serves {}", resource.id),
                source: std::io::ErrorKind::NotConnected.into(),
            })?;
        Ok(permit.guard(Box::new(stream) as BoxedStream))
    }

    async fn spawn(&self, _: &Permit, _: ProcessRequest) -> Result<Process, ReachError> {
        Err(ReachError::NotPermitted("a process on a proxy"))
    }
}
