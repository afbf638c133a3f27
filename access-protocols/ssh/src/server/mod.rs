//! The SSH server of a node.

mod budget;
mod copying;
mod end;
mod events;
mod exit;
mod forward;
mod guest;
mod handler;
mod relay;
mod session;
mod sftp;
mod tape;

use std::sync::Arc;

use access_core::audit::AuditSink;
use access_core::protocol::{Incoming, Protocol};
use access_core::reach::Reach;
use access_core::recording::Recorder;
use access_core::{Clock, Gate, Resource, ResourceKind, ResourceRef};
use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::auth::{Attempts, Checker, TrustSource};
use crate::connection::{Connection, drive};
use crate::error::SshError;
use crate::hostkeys::HostKeys;
use crate::options::SshOptions;
use handler::ServerHandler;

/// What is known of a node at the moment: its labels can change while it is served.
pub type NodeSource = Arc<dyn Fn(&ResourceRef) -> Option<Resource> + Send + Sync>;

/// Serves nodes to SSH clients. See the [crate's documentation](crate).
pub struct SshServer {
    parts: Arc<Parts>,
}

/// What all connections share.
pub(crate) struct Parts {
    pub(crate) gate: Arc<Gate>,
    pub(crate) reach: Arc<dyn Reach>,
    pub(crate) checker: Checker,
    pub(crate) recorder: Option<Arc<dyn Recorder>>,
    host_keys: HostKeys,
    node: NodeSource,
    pub(crate) options: SshOptions,
}

/// Gathers what an [`SshServer`] needs.
#[derive(Default)]
pub struct SshServerBuilder {
    gate: Option<Arc<Gate>>,
    reach: Option<Arc<dyn Reach>>,
    trust: Option<TrustSource>,
    audit: Option<Arc<dyn AuditSink>>,
    clock: Option<Arc<dyn Clock>>,
    recorder: Option<Arc<dyn Recorder>>,
    host_keys: Option<HostKeys>,
    node: Option<NodeSource>,
    options: SshOptions,
}

impl SshServer {
    /// A builder. All but the recorder and the options must be given.
    pub fn builder() -> SshServerBuilder {
        SshServerBuilder::default()
    }

    /// The host key and certificate, to be replaced when they are renewed.
    pub fn host_keys(&self) -> &HostKeys {
        &self.parts.host_keys
    }
}

impl SshServerBuilder {
    /// Decides who may do what.
    #[must_use]
    pub fn gate(mut self, gate: Arc<Gate>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Starts processes and dials addresses.
    #[must_use]
    pub fn reach(mut self, reach: Arc<dyn Reach>) -> Self {
        self.reach = Some(reach);
        self
    }

    /// The authorities whose user certificates are good; asked anew for every authentication.
    #[must_use]
    pub fn trust(mut self, trust: TrustSource) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Takes the events. Usually the sink that the gate writes to as well.
    #[must_use]
    pub fn audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Tells the time.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Records terminal sessions. Without one, users whose sessions must be recorded get none.
    #[must_use]
    pub fn recorder(mut self, recorder: Arc<dyn Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// The host key and certificate.
    #[must_use]
    pub fn host_keys(mut self, host_keys: HostKeys) -> Self {
        self.host_keys = Some(host_keys);
        self
    }

    /// The one node that is served, whose labels don't change.
    #[must_use]
    pub fn node(self, node: Resource) -> Self {
        self.nodes(Arc::new(move |id| (*id == node.id).then(|| node.clone())))
    }

    /// The nodes that are served, as they are at the moment.
    #[must_use]
    pub fn nodes(mut self, nodes: NodeSource) -> Self {
        self.node = Some(nodes);
        self
    }

    /// Limits and deadlines.
    #[must_use]
    pub fn options(mut self, options: SshOptions) -> Self {
        self.options = options;
        self
    }

    /// The server.
    ///
    /// # Errors
    /// [`SshError::Missing`] names what was not given.
    pub fn build(self) -> Result<SshServer, SshError> {
        let parts = Parts {
            gate: self.gate.ok_or(SshError::Missing("a gate"))?,
            reach: self.reach.ok_or(SshError::Missing("a reach"))?,
            checker: Checker {
                trust: self.trust.ok_or(SshError::Missing("a trust source"))?,
                clock: self.clock.ok_or(SshError::Missing("a clock"))?,
                audit: self.audit.ok_or(SshError::Missing("an audit sink"))?,
            },
            recorder: self.recorder,
            host_keys: self.host_keys.ok_or(SshError::Missing("host keys"))?,
            node: self.node.ok_or(SshError::Missing("a node"))?,
            options: self.options,
        };
        Ok(SshServer { parts: Arc::new(parts) })
    }
}

#[async_trait]
impl Protocol for SshServer {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Node
    }

    fn alpn(&self) -> &'static [&'static [u8]] {
        &[access_core::tls::ALPN_SSH]
    }

    async fn serve(&self, connection: Incoming) {
        let Incoming { stream, peer, resource, client_addr, trace_id, admission, .. } = connection;
        let Some(node) = (self.parts.node)(&resource) else {
            tracing::warn!(%resource, "an SSH connection for a node that is not served here");
            return;
        };
        let parts = Arc::clone(&self.parts);
        let config = parts.options.library_config(&parts.host_keys.current());
        let connection = Connection::new(client_addr, trace_id);
        let (authenticated, when_authenticated) = oneshot::channel();
        let name = node.id.name.as_str().into();
        let attempts =
            Attempts::new(parts.checker.clone(), client_addr, Some(name)).of_peer(peer.as_ref());
        let handler = ServerHandler::new(
            Arc::clone(&parts),
            Arc::clone(&connection),
            node,
            attempts,
            admission,
            authenticated,
        );
        drive(connection, stream, config, handler, when_authenticated, &parts.options).await;
    }
}

impl std::fmt::Debug for SshServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshServer")
            .field("host_keys", &self.parts.host_keys)
            .field("options", &self.parts.options)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SshServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshServerBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
