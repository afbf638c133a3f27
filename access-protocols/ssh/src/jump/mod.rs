//! The jump host: leads `ssh -J` on to nodes, and serves nothing itself.
//!
//! A client authenticates here as it does at a node, and may then open `direct-tcpip` channels to
//! nodes by name. What runs in them is SSH with the node; this side copies it unread.

mod handler;
mod lead;

use std::net::SocketAddr;
use std::sync::Arc;

use access_core::audit::AuditSink;
use access_core::ids::TraceId;
use access_core::reach::{BoxedStream, Reach};
use access_core::{Clock, Gate, Resource};
use tokio::io::BufReader;
use tokio::sync::oneshot;

use crate::auth::{Attempts, Checker, TrustSource};
use crate::connection::{Connection, drive};
use crate::error::SshError;
use crate::hostkeys::HostKeys;
use crate::options::SshOptions;
use handler::JumpHandler;

/// What is read from a client at once. The library reads a packet's length, then its rest, each
/// with a call of the system; and of a client that receives much there come the grants of two
/// windows, its own and that of the connection inside, each a packet of a few dozen bytes.
const READ: usize = 16 * 1024;

/// Finds nodes by what clients write after `ssh -J proxy`.
pub trait NodeDirectory: Send + Sync + 'static {
    /// The node that is meant by `name`: its name, or its DNS label. What users append to it, such
    /// as `.node.CLUSTER`, has been taken off.
    fn find(&self, name: &str) -> Option<Resource>;
}

impl<F: Fn(&str) -> Option<Resource> + Send + Sync + 'static> NodeDirectory for F {
    fn find(&self, name: &str) -> Option<Resource> {
        self(name)
    }
}

/// The SSH jump host of a proxy.
///
/// Reaching a node means [`Action::See`](access_core::policy::Action::See) at the gate and
/// [`Reach::dial`] with that permit; what the client may do there is decided by the node's agent.
pub struct JumpHost {
    parts: Arc<Parts>,
}

/// What all connections share.
pub(crate) struct Parts {
    gate: Arc<Gate>,
    reach: Arc<dyn Reach>,
    checker: Checker,
    host_keys: HostKeys,
    directory: Arc<dyn NodeDirectory>,
    options: SshOptions,
}

/// Gathers what a [`JumpHost`] needs.
#[derive(Default)]
pub struct JumpHostBuilder {
    gate: Option<Arc<Gate>>,
    reach: Option<Arc<dyn Reach>>,
    trust: Option<TrustSource>,
    audit: Option<Arc<dyn AuditSink>>,
    clock: Option<Arc<dyn Clock>>,
    host_keys: Option<HostKeys>,
    directory: Option<Arc<dyn NodeDirectory>>,
    options: SshOptions,
}

impl JumpHost {
    /// A builder. All but the options must be given.
    pub fn builder() -> JumpHostBuilder {
        JumpHostBuilder::default()
    }

    /// The host key and certificate, to be replaced when they are renewed.
    pub fn host_keys(&self) -> &HostKeys {
        &self.parts.host_keys
    }

    /// Serves one connection to its end; nothing of it was read yet. Dropping the future ends it.
    pub async fn serve(&self, stream: BoxedStream, client_addr: Option<SocketAddr>) {
        let stream = Box::new(BufReader::with_capacity(READ, stream));
        let parts = Arc::clone(&self.parts);
        let config = parts.options.library_config(&parts.host_keys.current());
        let connection = Connection::new(client_addr, TraceId::from_random(rand::random()));
        let (authenticated, when_authenticated) = oneshot::channel();
        let attempts = Attempts::new(parts.checker.clone(), client_addr, None);
        let handler =
            JumpHandler::new(Arc::clone(&parts), Arc::clone(&connection), attempts, authenticated);
        drive(connection, stream, config, handler, when_authenticated, &parts.options).await;
    }
}

impl JumpHostBuilder {
    /// Decides who may see which node.
    #[must_use]
    pub fn gate(mut self, gate: Arc<Gate>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Opens raw streams to nodes.
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

    /// Takes the events.
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

    /// The host key and certificate, made out to the proxy's names.
    #[must_use]
    pub fn host_keys(mut self, host_keys: HostKeys) -> Self {
        self.host_keys = Some(host_keys);
        self
    }

    /// Finds nodes.
    #[must_use]
    pub fn directory(mut self, directory: Arc<dyn NodeDirectory>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Limits and deadlines.
    #[must_use]
    pub fn options(mut self, options: SshOptions) -> Self {
        self.options = options;
        self
    }

    /// The jump host.
    ///
    /// # Errors
    /// [`SshError::Missing`] names what was not given.
    pub fn build(self) -> Result<JumpHost, SshError> {
        let parts = Parts {
            gate: self.gate.ok_or(SshError::Missing("a gate"))?,
            reach: self.reach.ok_or(SshError::Missing("a reach"))?,
            checker: Checker {
                trust: self.trust.ok_or(SshError::Missing("a trust source"))?,
                clock: self.clock.ok_or(SshError::Missing("a clock"))?,
                audit: self.audit.ok_or(SshError::Missing("an audit sink"))?,
            },
            host_keys: self.host_keys.ok_or(SshError::Missing("host keys"))?,
            directory: self.directory.ok_or(SshError::Missing("a directory of nodes"))?,
            options: self.options,
        };
        Ok(JumpHost { parts: Arc::new(parts) })
    }
}

impl std::fmt::Debug for JumpHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JumpHost")
            .field("host_keys", &self.parts.host_keys)
            .field("options", &self.parts.options)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for JumpHostBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JumpHostBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
