//! From a stream of a tunnel to the protocol that serves it.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use access_core::audit::{AuditSink, Durability};
use access_core::identity::SharedTrust;
use access_core::protocol::{Admission, Incoming, Protocol};
use access_core::time::Clock;
use access_core::tls::{ClientAuth, NoteRefused, TlsError, server_config};
use access_core::{ClusterName, ResourceKind, ResourceRef, TraceId};
use access_tunnel::{Flavour, OpenHeader, PendingStream, RefuseCode, Stream};
use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::join_all;
use metrics::{counter, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use super::handshake::{Refused, handshake};
use super::strangers::{Strangers, StrangersPlace};
use crate::membership::Membership;

/// How long protocols may take to clean up after connections that were cut.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// How much may come through all tunnels together.
#[derive(Clone, Debug)]
pub(crate) struct DispatchLimits {
    /// Streams at once.
    pub(crate) streams: usize,
    /// Of these, whose clients have not authenticated yet.
    pub(crate) strangers: usize,
    /// Of these, from one address.
    pub(crate) strangers_per_address: usize,
    /// How long a client's TLS handshake may take.
    pub(crate) handshake: Duration,
}

/// Hands streams to protocols.
pub(crate) struct Dispatcher {
    cluster: ClusterName,
    resources: HashSet<ResourceRef>,
    /// What is served beside these at the moment.
    more: ArcSwap<HashSet<ResourceRef>>,
    protocols: HashMap<ResourceKind, Served>,
    trust: Arc<SharedTrust>,
    clock: Arc<dyn Clock>,
    audit: Arc<dyn AuditSink>,
    limits: DispatchLimits,
    slots: Arc<Semaphore>,
    strangers: Arc<Strangers>,
    tasks: TaskTracker,
    /// Nothing new is taken.
    draining: CancellationToken,
    /// What is open is cut.
    cut: CancellationToken,
}

/// A stream that may come in.
struct Admitted {
    resource: ResourceRef,
    slot: OwnedSemaphorePermit,
    place: StrangersPlace,
}

struct Served {
    protocol: Arc<dyn Protocol>,
    tls: Arc<rustls::ServerConfig>,
}

impl Dispatcher {
    pub(crate) fn new(
        membership: &Membership,
        protocols: impl IntoIterator<Item = Arc<dyn Protocol>>,
        audit: Arc<dyn AuditSink>,
        limits: DispatchLimits,
    ) -> Result<Self, TlsError> {
        let (trust, key, clock) = (membership.trust(), membership.key(), membership.clock());
        let protocols = protocols
            .into_iter()
            .map(|protocol| {
                let kind = protocol.kind();
                // A client that offers no protocol is served as well.
                let alpn = protocol.alpn();
                let auth = ClientAuth::Watched(Arc::clone(&trust), Arc::new(NoteRefused));
                let tls = server_config(auth, Arc::clone(&key) as _, Arc::clone(&clock), alpn)?;
                Ok((kind, Served { protocol, tls: Arc::new(tls) }))
            })
            .collect::<Result<_, TlsError>>()?;
        Ok(Self {
            cluster: membership.cluster().clone(),
            resources: membership.options().resources.iter().cloned().collect(),
            more: ArcSwap::default(),
            protocols,
            trust,
            clock,
            audit,
            slots: Arc::new(Semaphore::new(limits.streams)),
            strangers: Strangers::new(limits.strangers, limits.strangers_per_address),
            limits,
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
        })
    }

    /// Has these resources be served beside those that are configured, and no others. Streams that
    /// are open stay.
    pub(crate) fn serve_more(&self, resources: HashSet<ResourceRef>) {
        self.more.store(Arc::new(resources));
    }

    /// Takes a stream, or refuses it.
    pub(crate) fn take(self: &Arc<Self>, pending: PendingStream) {
        let Admitted { resource, slot, place } = match self.admit(pending.header()) {
            Ok(admitted) => admitted,
            Err((code, why)) => {
                debug!(target = pending.header().target.as_str(), "refused a stream: {why}");
                counter!("access_agent_refused_total", "reason" => why).increment(1);
                pending.refuse(code, why);
                return;
            }
        };
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            gauge!("access_agent_streams").increment(1);
            let header = pending.header().clone();
            let trace_id = TraceId::from_random(header.trace_id);
            let served = AssertUnwindSafe(async {
                match pending.accept() {
                    Ok(stream) => {
                        this.serve(stream, &header, resource, trace_id.clone(), place).await;
                    }
                    Err(err) => debug!(%trace_id, "the proxy gave up a stream: {err}"),
                }
            })
            .catch_unwind();
            tokio::select! {
                served = served => {
                    if served.is_err() {
                        error!(%trace_id, "serving a connection panicked");
                        counter!("access_agent_panics_total").increment(1);
                    }
                }
                () = this.cut.cancelled() => debug!(%trace_id, "cut: the agent stops"),
            }
            drop(slot);
            gauge!("access_agent_streams").decrement(1);
        });
    }

    /// Takes nothing more, lets what is open end within `deadline`, and cuts the rest.
    pub(crate) async fn drain(&self, deadline: Duration) {
        self.draining.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            self.tasks.wait().await;
        }
        let drained = join_all(self.protocols.values().map(|served| served.protocol.drained()));
        if tokio::time::timeout(AFTERWARDS, drained).await.is_err() {
            warn!("what sessions have left to be done is not done in time");
        }
    }

    /// How many streams are open.
    pub(crate) fn open(&self) -> usize {
        self.tasks.len()
    }

    fn admit(&self, header: &OpenHeader) -> Result<Admitted, (RefuseCode, &'static str)> {
        if self.draining.is_cancelled() {
            return Err((RefuseCode::GOING_AWAY, "the agent is stopping"));
        }
        let unknown = (RefuseCode::UNKNOWN_TARGET, "not served here");
        let resource: ResourceRef = header.target.parse().map_err(|_| unknown)?;
        let served = self.resources.contains(&resource) || self.more.load().contains(&resource);
        if !served || !self.protocols.contains_key(&resource.kind) {
            return Err(unknown);
        }
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| (RefuseCode::OVERLOADED, "too many connections at once"))?;
        let place = self
            .strangers
            .admit(header.client_addr)
            .map_err(|why| (RefuseCode::OVERLOADED, why))?;
        Ok(Admitted { resource, slot, place })
    }

    async fn serve(
        &self,
        stream: Stream,
        header: &OpenHeader,
        resource: ResourceRef,
        trace_id: TraceId,
        place: StrangersPlace,
    ) {
        let Some(served) = self.protocols.get(&resource.kind) else { return };
        let (client_addr, session) = (header.client_addr, header.session);
        let incoming = match header.flavour {
            Flavour::Raw => Incoming {
                stream: Box::new(stream),
                peer: None,
                resource,
                client_addr,
                trace_id,
                session,
                admission: Admission::holding(place),
            },
            Flavour::Tls => {
                let name = resource.dns_name(&self.cluster);
                let tls = Arc::clone(&served.tls);
                let now = || self.clock.now();
                let handshake = handshake(stream, tls, &name, &self.trust, now);
                let done = tokio::time::timeout(self.limits.handshake, handshake).await;
                let late = || Refused::Other("the TLS handshake took too long".into());
                match done.unwrap_or_else(|_| Err(late())) {
                    Ok((stream, peer)) => {
                        let stream = Box::new(stream);
                        // Who showed a certificate of the cluster is no stranger.
                        let admission = match peer {
                            Some(_) => {
                                drop(place);
                                Admission::unlimited()
                            }
                            None => Admission::holding(place),
                        };
                        Incoming {
                            stream,
                            peer,
                            resource,
                            client_addr,
                            trace_id,
                            session,
                            admission,
                        }
                    }
                    Err(why) => {
                        debug!(%trace_id, client = ?client_addr, "refused a client: {why}");
                        counter!("access_agent_refused_total", "reason" => "tls").increment(1);
                        if let Refused::Certificate(refused) = why {
                            // A refusal that cannot be written down is a refusal all the same.
                            let event = refused.event(&resource, client_addr).into();
                            if let Err(err) = self.audit.accept(event, Durability::Soon).await {
                                warn!(%err, "a refused certificate could not be recorded");
                            }
                        }
                        return;
                    }
                }
            }
        };
        served.protocol.serve(incoming).await;
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("resources", &self.resources).finish_non_exhaustive()
    }
}
