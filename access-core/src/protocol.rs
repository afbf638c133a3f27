//! What an agent needs of a protocol: somebody to hand connections to.

use std::net::SocketAddr;

use async_trait::async_trait;

use crate::identity::VerifiedIdentity;
use crate::ids::TraceId;
use crate::reach::BoxedStream;
use crate::resource::{ResourceKind, ResourceRef};

/// A connection that reached the agent, by a tunnel or directly.
pub struct Incoming {
    /// The bytes; what was TLS on the way is not any more.
    pub stream: BoxedStream,
    /// Whom the client proved to be by a TLS client certificate, if it showed one.
    pub peer: Option<VerifiedIdentity>,
    /// What it wants to reach.
    pub resource: ResourceRef,
    /// Where it is, as the proxy saw it.
    pub client_addr: Option<SocketAddr>,
    /// Ties the events of this connection together.
    pub trace_id: TraceId,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("resource", &self.resource)
            .field("client_addr", &self.client_addr)
            .field("trace_id", &self.trace_id)
            .finish_non_exhaustive()
    }
}

/// A protocol that an agent speaks. Registered once with the agent's runtime, by kind.
#[async_trait]
pub trait Protocol: Send + Sync + 'static {
    /// The kind of resource that it serves.
    fn kind(&self) -> ResourceKind;

    /// Serves one connection to its end. It is dropped when the agent stops waiting for it, so
    /// whatever must be written down at the end is written down on drop as well.
    async fn serve(&self, connection: Incoming);
}
