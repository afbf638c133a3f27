//! An agent: a host that serves resources through tunnels.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use access_client::types::{Document, DocumentSpec, ServerDocument};
use access_client::{ClientError, FirstTrust, HostPort, ping, proto, with_deadline};
use access_core::identity::{AuthorityKind, Service};
use access_core::policy::ApiKind;
use access_core::protocol::Protocol;
use access_core::{ResourceKind, ResourceRef};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::error::AgentError;
use crate::host::{Host, HostStatus};
use crate::membership::AuthRoute;
use crate::pause::jittered;
use crate::tunnels::{DispatchLimits, Dispatcher, Pool, Proxies};

/// How often proxies are looked for.
const LOOK_FOR_PROXIES: Duration = Duration::from_secs(60);
/// Tunnels wait this long for the policy, without which nothing would be granted.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Puts an agent together.
pub struct AgentBuilder {
    host: Host,
    protocols: Vec<Arc<dyn Protocol>>,
    limits: DispatchLimits,
    drain: Duration,
}

/// An agent. It serves while [`Agent::run`] runs.
pub struct Agent {
    host: Host,
    dispatcher: Arc<Dispatcher>,
    proxies: Proxies,
    drain: Duration,
}

/// How an agent is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentStatus {
    /// As a host.
    pub host: HostStatus,
    /// Proxies that it holds a tunnel to.
    pub tunnels: usize,
    /// Streams that are open.
    pub streams: usize,
}

impl AgentStatus {
    /// Whether it can be reached and would grant something; if not, why.
    pub fn ready(&self) -> Result<(), &'static str> {
        if !self.host.joined {
            Err("the certificates of this host do not hold")
        } else if self.host.spool.failed.is_some() {
            Err("the audit spool has failed")
        } else if !self.host.cache_ready {
            Err("the cluster's policy was not read yet")
        } else if self.tunnels == 0 {
            Err("no tunnel to a proxy is up")
        } else {
            Ok(())
        }
    }
}

impl AgentBuilder {
    /// Serves resources of the protocol's kind by it. Of two protocols of a kind the later one
    /// counts.
    pub fn protocol(mut self, protocol: Arc<dyn Protocol>) -> Self {
        self.protocols.push(protocol);
        self
    }

    /// Has a resource's document stand in the cluster; the resource itself is one of
    /// [`HostOptions::resources`](crate::HostOptions::resources).
    pub fn resource<S>(self, document: Document<S>) -> Self
    where
        S: DocumentSpec + Clone + Send + Sync + 'static,
    {
        self.host.advertise(document);
        self
    }

    /// How many connections are served at once; further ones are refused. Default 4096.
    pub fn max_streams(mut self, streams: usize) -> Self {
        self.limits.streams = streams;
        self
    }

    /// How many of these may be of clients that have not authenticated yet, and how many of those
    /// may come from one address (with IPv6, from one network of 64 bits); further ones are
    /// refused. Default 512 and 64. A client has authenticated when the protocol drops the
    /// connection's [`Admission`](access_core::protocol::Admission), or by a TLS certificate of
    /// the cluster.
    pub fn max_unauthenticated(mut self, streams: usize, per_address: usize) -> Self {
        self.limits.strangers = streams;
        self.limits.strangers_per_address = per_address;
        self
    }

    /// How long a client's TLS handshake may take. Default 10 s.
    pub fn handshake_deadline(mut self, deadline: Duration) -> Self {
        self.limits.handshake = deadline;
        self
    }

    /// How long sessions may go on after the agent was told to stop. Default 30 s.
    pub fn drain(mut self, deadline: Duration) -> Self {
        self.drain = deadline;
        self
    }

    /// The agent.
    ///
    /// # Errors
    /// [`AgentError::Setup`] when a resource has no protocol, [`AgentError::Tls`].
    pub fn build(self) -> Result<Agent, AgentError> {
        let membership = self.host.membership();
        let resources = &membership.options().resources;
        let served: BTreeSet<ResourceKind> = self.protocols.iter().map(|p| p.kind()).collect();
        if let Some(resource) = resources.iter().find(|r| !served.contains(&r.kind)) {
            return Err(AgentError::Setup(format!("no protocol is registered for {resource}")));
        }
        if !membership.options().databases.is_empty() && !served.contains(&ResourceKind::Database) {
            return Err(AgentError::Setup("no protocol is registered for databases".into()));
        }
        let audit = self.host.audit();
        let dispatcher = Dispatcher::new(membership, self.protocols, audit, self.limits)?;
        Ok(Agent {
            dispatcher: Arc::new(dispatcher),
            proxies: Proxies::default(),
            drain: self.drain,
            host: self.host,
        })
    }
}

impl Agent {
    /// Starts to put an agent together from a host.
    pub fn builder(host: Host) -> AgentBuilder {
        AgentBuilder {
            host,
            protocols: Vec::new(),
            limits: DispatchLimits {
                streams: 4096,
                strangers: 512,
                strangers_per_address: 64,
                handshake: Duration::from_secs(10),
            },
            drain: Duration::from_secs(30),
        }
    }

    /// The host that it is.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Has these resources be served beside [`HostOptions::resources`](crate::HostOptions), until it
    /// is called again: what the certificates name by [`HostOptions::databases`](crate::HostOptions).
    /// Streams that are open stay.
    pub fn serve_more(&self, resources: impl IntoIterator<Item = ResourceRef>) {
        self.dispatcher.serve_more(resources.into_iter().collect());
    }

    /// How it is.
    pub fn status(&self) -> AgentStatus {
        AgentStatus {
            host: self.host.status(),
            tunnels: self.proxies.len(),
            streams: self.dispatcher.open(),
        }
    }

    /// Serves until `stop`. Then proxies are asked to lead nobody here any more, sessions may end
    /// by themselves for the drain's time, the rest is cut, and what waits is handed over.
    ///
    /// # Errors
    /// [`AgentError::Expired`] when the certificates expired and nothing helps.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), AgentError> {
        self.run_beside(stop, std::future::ready(())).await
    }

    /// The same for a program that serves something else too, with ports of its own: until `others`
    /// says that this has come to its end, the policy is followed and events are handed over.
    ///
    /// # Errors
    /// As [`Agent::run`].
    pub async fn run_beside(
        &self,
        stop: CancellationToken,
        others: impl Future<Output = ()>,
    ) -> Result<(), AgentError> {
        let (host_stop, tunnels_stop) = (CancellationToken::new(), CancellationToken::new());
        let host = self.host.run(host_stop.clone());
        let serve = async {
            let ready = tokio::time::timeout(READY_WITHIN, self.host.ready());
            tokio::select! {
                _ = ready => {}
                () = stop.cancelled() => {}
            }
            let known: BTreeSet<_> = self.configured().into_iter().collect();
            let addresses = watch::Sender::new(known);
            let membership = Arc::clone(self.host.membership());
            let pool = Pool::new(membership, Arc::clone(&self.dispatcher), self.proxies.clone());
            let pool = pool.run(addresses.subscribe(), tunnels_stop.clone());
            let until_stop = async {
                tokio::select! {
                    () = self.look_for_proxies(&addresses) => {}
                    () = stop.cancelled() => {}
                }
                info!("stopping: open sessions may end by themselves");
                tunnels_stop.cancel();
            };
            tokio::join!(pool, until_stop);
            tokio::join!(self.dispatcher.drain(self.drain), others);
            host_stop.cancel();
        };
        tokio::pin!(host, serve);
        tokio::select! {
            ended = &mut host => {
                // Without certificates there is nothing more to serve.
                tunnels_stop.cancel();
                self.dispatcher.drain(Duration::ZERO).await;
                ended
            }
            () = &mut serve => host.await,
        }
    }

    fn configured(&self) -> Vec<HostPort> {
        match &self.host.membership().options().route {
            AuthRoute::Proxies(addresses) => addresses.clone(),
            AuthRoute::Direct(_) => Vec::new(),
        }
    }

    /// Keeps the addresses of proxies current: those configured, those that they say of
    /// themselves, and those that Auth knows.
    async fn look_for_proxies(&self, addresses: &watch::Sender<BTreeSet<HostPort>>) {
        loop {
            let mut known: BTreeSet<HostPort> = self.configured().into_iter().collect();
            let listed = self.listed_proxies().await;
            match &listed {
                Ok(listed) => known.extend(listed.iter().cloned()),
                Err(err) => debug!("the proxies cannot be listed: {err}"),
            }
            known.extend(self.announced_proxies().await);
            addresses.send_if_modified(|current| {
                if listed.is_err() {
                    // What was known stays good until somebody knows better.
                    known.extend(current.iter().cloned());
                }
                let changed = *current != known;
                *current = known;
                changed
            });
            tokio::time::sleep(jittered(LOOK_FOR_PROXIES)).await;
        }
    }

    async fn listed_proxies(&self) -> Result<Vec<HostPort>, ClientError> {
        let request = proto::ListRequest {
            kind: ApiKind::Server.as_str().to_owned(),
            lately: true,
            ..proto::ListRequest::default()
        };
        let answer = self.host.client().resources().list(with_deadline(request)).await?;
        let servers = answer.into_inner().documents;
        let proxies = servers
            .iter()
            .filter_map(|document| ServerDocument::from_json(&document.json).ok())
            .filter(|server| server.spec.service == Service::Proxy);
        Ok(proxies.flat_map(|server| readable(&server.spec.public_addrs)).collect())
    }

    async fn announced_proxies(&self) -> Vec<HostPort> {
        let membership = self.host.membership();
        let trust = membership.trust().load();
        let pins = trust.of_kind(AuthorityKind::Host).filter_map(|host| host.pins().ok());
        let trust = FirstTrust::Pins(pins.flatten().collect());
        let mut found = Vec::new();
        for address in self.configured() {
            match ping(&address, &trust, membership.clock()).await {
                Ok(ping) if ping.cluster_name == *membership.cluster() => {
                    found.extend(readable(&ping.public_addrs));
                }
                Ok(ping) => debug!(%address, "belongs to another cluster: {}", ping.cluster_name),
                Err(err) => debug!(%address, "does not answer a ping: {err}"),
            }
        }
        found
    }
}

fn readable(addresses: &[String]) -> Vec<HostPort> {
    addresses.iter().filter_map(|address| address.parse().ok()).collect()
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("host", &self.host).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for AgentBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentBuilder").field("host", &self.host).finish_non_exhaustive()
    }
}
