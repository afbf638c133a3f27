//! For a gateway that listens itself, with no proxy before it: from a connection to a session.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use access_core::identity::SharedTrust;
use access_core::ids::TraceId;
use access_core::protocol::{Admission, Incoming, Protocol};
use access_core::tls::{ClientAuth, SharedKey, TlsError, peer_identity, server_config};
use access_core::{Clock, ResourceRef};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::handler::PostgresServer;
use crate::prelude::{self, Opened};
use crate::tls::ALPN_POSTGRESQL;

/// The front door of one database: a client's first words, TLS, and who shows which certificate.
///
/// It does not limit how many connections there are; whoever accepts them does. Each has the
/// server's `startup_deadline` for its first words, and again for TLS.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use access_core::{Clock, ResourceRef, identity::SharedTrust, tls::SharedKey};
/// # use access_postgres::{Door, PostgresServer};
/// # async fn example(
/// #     server: PostgresServer, id: ResourceRef, key: Arc<SharedKey>, trust: Arc<SharedTrust>,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let door = Door::new(server, id, key, trust)?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:6432").await?;
/// loop {
///     let (stream, client) = listener.accept().await?;
///     stream.set_nodelay(true)?;
///     let door = door.clone();
///     tokio::spawn(async move { door.serve(stream, Some(client)).await });
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Door {
    server: PostgresServer,
    resource: ResourceRef,
    tls: TlsAcceptor,
    trust: Arc<SharedTrust>,
    clock: Arc<dyn Clock>,
}

impl Door {
    /// A door that shows this certificate and knows users by these authorities.
    ///
    /// # Errors
    /// [`TlsError`] when TLS cannot be configured so.
    pub fn new(
        server: PostgresServer,
        resource: ResourceRef,
        key: Arc<SharedKey>,
        trust: Arc<SharedTrust>,
    ) -> Result<Self, TlsError> {
        let clock = Arc::clone(server.clock());
        // A client without a certificate is told in PostgreSQL's words what it needs.
        let auth = ClientAuth::Optional(Arc::clone(&trust));
        let tls = server_config(auth, key, Arc::clone(&clock), &[ALPN_POSTGRESQL])?;
        Ok(Self { server, resource, tls: TlsAcceptor::from(Arc::new(tls)), trust, clock })
    }

    /// Serves one connection to its end.
    ///
    /// # Errors
    /// What kept it from becoming a session before it asked for one; the client has been told as
    /// far as that is possible.
    pub async fn serve<S>(&self, stream: S, client_addr: Option<SocketAddr>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let deadline = self.server.options().startup_deadline;
        let stream = match prelude::open(stream, deadline).await? {
            Opened::Tls(stream) => timeout(deadline, self.tls.accept(stream)).await??,
            Opened::Cancel(request) => {
                self.server.cancel(&request, client_addr).await;
                return Ok(());
            }
            Opened::Closed => return Ok(()),
        };
        let peer = peer_identity(stream.get_ref().1, &self.trust, self.clock.now())
            .map_err(io::Error::other)?;
        let incoming = Incoming {
            stream: Box::new(stream),
            peer,
            resource: self.resource.clone(),
            client_addr,
            trace_id: TraceId::from_random(rand::random()),
            session: None,
            admission: Admission::unlimited(),
        };
        self.server.serve(incoming).await;
        Ok(())
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("resource", &self.resource).finish_non_exhaustive()
    }
}
