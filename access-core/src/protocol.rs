//! What an agent needs of a protocol: somebody to hand connections to.

use std::any::Any;
use std::net::SocketAddr;

use async_trait::async_trait;

use crate::identity::VerifiedIdentity;
use crate::ids::TraceId;
use crate::reach::BoxedStream;
use crate::resource::{ResourceKind, ResourceRef};

/// What a connection takes of the little that is set aside for clients who have proved nothing yet.
///
/// Whoever accepts connections gives one along with each, and limits how many there are. A protocol
/// drops it once its client has authenticated: from then on the connection counts no more among
/// those of strangers. One that keeps it does no harm but to be limited like them.
///
/// ```
/// use std::sync::Arc;
/// use access_core::protocol::Admission;
///
/// let place = Arc::new(());
/// let admission = Admission::holding(Arc::clone(&place));
/// assert_eq!(Arc::strong_count(&place), 2);
/// drop(admission); // The client has authenticated.
/// assert_eq!(Arc::strong_count(&place), 1);
/// ```
#[derive(Default)]
pub struct Admission(Option<Box<dyn Any + Send>>);

impl Admission {
    /// For connections that nobody counts.
    pub const fn unlimited() -> Self {
        Self(None)
    }

    /// Holds something whose drop frees the place.
    pub fn holding(place: impl Any + Send) -> Self {
        Self(Some(Box::new(place)))
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("held", &self.0.is_some()).finish()
    }
}

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
    /// The number by which the proxy finds this session again, if one led here: below 2^31, and
    /// no other open session's there. For protocols whose clients name a session on another
    /// connection, which arrives without it.
    pub session: Option<u32>,
    /// To be dropped when the client has authenticated.
    pub admission: Admission,
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

    /// What its clients offer where TLS begins (ALPN), if they offer anything.
    fn alpn(&self) -> &'static [&'static [u8]] {
        &[]
    }

    /// Serves one connection to its end. It is dropped when the agent stops waiting for it, so
    /// whatever must be written down at the end is written down on drop as well.
    async fn serve(&self, connection: Incoming);

    /// Completes when what connections that were dropped have left to be done is done: their last
    /// events, what was made for them. Whoever stops waits for it, no longer than it likes.
    async fn drained(&self) {}
}
