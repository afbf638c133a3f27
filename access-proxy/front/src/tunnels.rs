//! The tunnels that agents hold here, by what they reach.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use access_core::identity::{Subject, VerifiedIdentity};
use access_core::resource::{DnsResource, ResourceRef, dns_label};
use access_core::time::{Clock, Timestamp};
use access_core::{HostId, ResourceKind, TraceId};
use access_tunnel::{CloseCode, Config, Flavour, Handle, OpenHeader, Stream, Tunnel};
use metrics::gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, info};

use crate::sessions::{SessionNumber, Sessions};

/// The tunnels that agents hold to this proxy.
///
/// An agent's certificate says which resources are its own, so the certificate is the
/// registration: an agent cannot draw to itself what belongs to another.
#[derive(Debug, Default)]
pub struct Tunnels {
    routes: RwLock<Routes>,
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<Entry>>>,
    sessions: Sessions<Served>,
}

/// Where a session goes.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    entry: Arc<Entry>,
    resource: ResourceRef,
}

/// By kind and DNS label; the newest last.
type Routes = HashMap<(ResourceKind, String), Vec<Arc<Entry>>>;

/// One agent's tunnel.
#[derive(Debug)]
struct Entry {
    number: u64,
    host: HostId,
    resources: Vec<ResourceRef>,
    since: Timestamp,
    agent_addr: SocketAddr,
    handle: Handle,
}

/// What is known of a tunnel.
#[derive(Clone, Debug)]
pub struct TunnelInfo {
    /// The agent.
    pub host: HostId,
    /// What it serves.
    pub resources: Vec<ResourceRef>,
    /// Since when it stands.
    pub since: Timestamp,
    /// From where it was opened.
    pub agent_addr: SocketAddr,
}

/// Streams to agents are opened within this time, or fail.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

impl Tunnels {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tunnels that stand.
    pub fn list(&self) -> Vec<TunnelInfo> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.values()
            .map(|entry| TunnelInfo {
                host: entry.host.clone(),
                resources: entry.resources.clone(),
                since: entry.since,
                agent_addr: entry.agent_addr,
            })
            .collect()
    }

    /// Opens a stream to whoever serves a resource. `None` when nobody does.
    ///
    /// Of several agents, a client is led to the same one while that is there, through whichever
    /// proxy it comes: what it says within TLS about what it does on another connection arrives
    /// where that is known. Of one agent's tunnels the newest is first, because an older one may be
    /// dead without knowing it.
    pub async fn open(
        &self,
        target: &DnsResource,
        flavour: Flavour,
        client: SocketAddr,
        trace_id: [u8; 16],
    ) -> Option<Stream> {
        for served in self.serving(target, client.ip()) {
            let header = served.header(flavour, client, trace_id);
            if let Some(stream) = served.open(header).await {
                return Some(stream);
            }
        }
        None
    }

    /// The same for a client's TLS connection, under a number by which
    /// [`Tunnels::open_beside`] finds its agent again for as long as it is held.
    pub(crate) async fn open_session(
        &self,
        target: &DnsResource,
        client: SocketAddr,
        trace_id: [u8; 16],
    ) -> Option<(Stream, SessionNumber<'_, Served>)> {
        for served in self.serving(target, client.ip()) {
            let Some(session) = self.sessions.enter(served.clone()) else { break };
            let mut header = served.header(Flavour::Tls, client, trace_id);
            header.session = Some(session.number());
            if let Some(stream) = served.open(header).await {
                return Some((stream, session));
            }
        }
        None
    }

    /// Opens a stream in the target's own protocol to the agent that serves an open session, for
    /// what a client says about that session on a connection of its own. `None` when there is no
    /// such session, or its agent does not answer.
    ///
    /// The number is no secret and proves nothing: whoever serves the session judges what comes.
    pub async fn open_beside(&self, session: u32, client: SocketAddr) -> Option<Stream> {
        let served = self.sessions.find(session)?;
        let (trace_id, _) = new_trace_id();
        served.open(served.header(Flavour::Raw, client, trace_id)).await
    }

    fn serving(&self, target: &DnsResource, client: IpAddr) -> Vec<Served> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let entries = routes.get(&(target.kind, target.label.clone()));
        let alive = entries.into_iter().flatten().rev().filter(|entry| entry.handle.is_open());
        let mut serving: Vec<_> = alive.filter_map(|entry| entry.resource(target)).collect();
        serving.sort_by_cached_key(|served| rank(client, &served.entry.host));
        serving
    }

    /// Serves an agent's tunnel to its end. It ends with the agent's certificate at the latest.
    pub(crate) async fn serve<T>(
        &self,
        io: T,
        agent: &VerifiedIdentity,
        agent_addr: SocketAddr,
        clock: &dyn Clock,
    ) where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Subject::Host { id, resources, .. } = &agent.identity().subject else { return };
        let (handle, incoming, driver) = Tunnel::server(io, Config::opener());
        drop(incoming);
        let entry = Arc::new(Entry {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            host: id.clone(),
            resources: resources.clone(),
            since: clock.now(),
            agent_addr,
            handle: handle.clone(),
        });
        let _registered = Registered::new(self, entry);
        info!(host = %id, addr = %agent_addr, "an agent opened its tunnel");
        let expiry = async {
            clock.sleep_until(agent.validity().not_after()).await;
            // An agent that renews in time has a newer tunnel by now.
            handle.close(CloseCode::NORMAL);
            std::future::pending::<()>().await;
        };
        let reason = tokio::select! {
            reason = driver => reason,
            () = expiry => return,
        };
        info!(host = %id, addr = %agent_addr, "an agent's tunnel ended: {reason:?}");
    }

    /// Asks all agents to open no more through here and to go elsewhere; streams go on.
    pub(crate) fn go_away(&self) {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        for entry in open.values() {
            entry.handle.go_away();
        }
    }

    /// How many streams are open over all tunnels.
    pub(crate) fn streams(&self) -> usize {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.values().map(|entry| entry.handle.stats().streams).sum()
    }
}

/// Where an agent stands among those to which a client can be led. When one comes or goes, only
/// those clients are led elsewhere for whom it is the first.
fn rank(client: IpAddr, agent: &HostId) -> u64 {
    // Its keys are fixed, so that all proxies come to the same.
    let mut hasher = DefaultHasher::new();
    (client.to_canonical(), agent.as_str()).hash(&mut hasher);
    hasher.finish()
}

impl Entry {
    fn resource(self: &Arc<Self>, target: &DnsResource) -> Option<Served> {
        let fits = |resource: &&ResourceRef| {
            resource.kind == target.kind && dns_label(&resource.name) == target.label
        };
        let resource = self.resources.iter().find(fits)?.clone();
        Some(Served { entry: Arc::clone(self), resource })
    }
}

impl Served {
    fn header(&self, flavour: Flavour, client: SocketAddr, trace_id: [u8; 16]) -> OpenHeader {
        let mut header = OpenHeader::new(self.resource.to_string(), flavour);
        header.client_addr = Some(client);
        header.trace_id = trace_id;
        header
    }

    async fn open(&self, header: OpenHeader) -> Option<Stream> {
        let (host, resource) = (&self.entry.host, &self.resource);
        match tokio::time::timeout(OPEN_DEADLINE, self.entry.handle.open(header)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(err)) => debug!("agent {host} did not take {resource}: {err}"),
            Err(_) => debug!("agent {host} did not answer for {resource}"),
        }
        None
    }
}

/// A tunnel is registered until this is dropped.
struct Registered<'a> {
    tunnels: &'a Tunnels,
    entry: Arc<Entry>,
}

impl<'a> Registered<'a> {
    fn new(tunnels: &'a Tunnels, entry: Arc<Entry>) -> Self {
        let mut routes = tunnels.routes.write().unwrap_or_else(PoisonError::into_inner);
        for resource in &entry.resources {
            let key = (resource.kind, dns_label(&resource.name));
            routes.entry(key).or_default().push(Arc::clone(&entry));
        }
        drop(routes);
        let mut open = tunnels.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(entry.number, Arc::clone(&entry));
        gauge!("access_proxy_tunnels").set(open.len() as f64);
        drop(open);
        Self { tunnels, entry }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut routes = self.tunnels.routes.write().unwrap_or_else(PoisonError::into_inner);
        for resource in &self.entry.resources {
            let key = (resource.kind, dns_label(&resource.name));
            if let Some(entries) = routes.get_mut(&key) {
                entries.retain(|entry| entry.number != self.entry.number);
                if entries.is_empty() {
                    routes.remove(&key);
                }
            }
        }
        drop(routes);
        let mut open = self.tunnels.open.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.entry.number);
        gauge!("access_proxy_tunnels").set(open.len() as f64);
    }
}

/// Sixteen random bytes and the id that is written for them.
pub(crate) fn new_trace_id() -> ([u8; 16], TraceId) {
    let mut bytes = [0; 16];
    // Trace ids are for people who read logs; without randomness they are all alike, no more.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    (bytes, TraceId::from_random(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_keeps_its_agent_and_agents_share_the_clients() {
        let agents = ["h-1", "h-2", "h-3"].map(|id| HostId::new(id).unwrap());
        let first = |client: IpAddr, agents: &[HostId]| {
            agents.iter().min_by_key(|agent| rank(client, agent)).cloned()
        };
        let mut led = HashMap::<_, u32>::new();
        for number in 0..300 {
            let client = IpAddr::from((0xc000_0200_u32 + number).to_be_bytes());
            let agent = first(client, &agents).unwrap();
            // However its address is written, and in whichever order agents came.
            let IpAddr::V4(v4) = client else { panic!("a v4 address") };
            let mut others = agents.to_vec();
            others.reverse();
            assert_eq!(first(v4.to_ipv6_mapped().into(), &others).as_ref(), Some(&agent));
            // Another agent's end is nothing to it.
            others.retain(|other| *other == agent || other.as_str() == "h-2");
            assert_eq!(first(client, &others).as_ref(), Some(&agent));
            *led.entry(agent).or_default() += 1;
        }
        assert!(led.len() == 3 && led.values().all(|clients| *clients > 60), "{led:?}");
    }
}
