//! For a gateway that listens itself, with no proxy before it: from a connection to a session.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access_core::audit::{AuditSink, Durability};
use access_core::identity::SharedTrust;
use access_core::ids::TraceId;
use access_core::protocol::{Admission, Incoming, Protocol};
use access_core::tls::{
    ClientAuth, NoteRefused, RefusedCertificate, SharedKey, TlsError, noting, peer_identity,
    server_config,
};
use access_core::{Clock, ResourceRef};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::handler::PostgresServer;
use crate::prelude::{self, Opened};
use crate::tls::ALPN_POSTGRESQL;

/// How long a client that was refused has to read why, and the most bytes that it may still send.
const LEAVE: Duration = Duration::from_secs(5);
const LEAVE_BYTES: u64 = 256 * 1024;

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
    audit: Arc<dyn AuditSink>,
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
        let (clock, audit) = (Arc::clone(server.clock()), Arc::clone(server.audit()));
        // A client without a certificate is told in PostgreSQL's words what it needs.
        let auth = ClientAuth::Watched(Arc::clone(&trust), Arc::new(NoteRefused));
        let tls = server_config(auth, key, Arc::clone(&clock), &[ALPN_POSTGRESQL])?;
        Ok(Self { server, resource, tls: TlsAcceptor::from(Arc::new(tls)), trust, audit, clock })
    }

    /// Serves one connection to its end.
    ///
    /// # Errors
    /// What kept it from becoming a session before it asked for one; the client has been told as
    /// far as that is possible. A certificate that is not good has left an event.
    pub async fn serve<S>(&self, stream: S, client_addr: Option<SocketAddr>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let deadline = self.server.options().startup_deadline;
        let stream = match prelude::open(stream, deadline).await? {
            Opened::Tls(stream) => {
                let accept = noting(self.tls.accept(stream).into_fallible());
                match timeout(deadline, accept).await? {
                    (Ok(stream), _) => stream,
                    (Err((err, stream)), noted) => {
                        if let Some(refused) = noted.or_else(|| RefusedCertificate::unproven(&err))
                        {
                            self.record(&refused, client_addr).await;
                        }
                        take_leave(stream).await;
                        return Err(err);
                    }
                }
            }
            Opened::Cancel(request) => {
                self.server.cancel(&request, client_addr).await;
                return Ok(());
            }
            Opened::Closed => return Ok(()),
        };
        let connection = stream.get_ref().1;
        let peer = match peer_identity(connection, &self.trust, self.clock.now()) {
            Ok(peer) => peer,
            Err(err) => {
                let leaf = connection.peer_certificates().and_then(<[_]>::first);
                self.record(&RefusedCertificate::new(leaf, &err), client_addr).await;
                return Err(io::Error::other(err));
            }
        };
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

    /// Writes down that a certificate was refused, which holds whether that can be written or not.
    async fn record(&self, refused: &RefusedCertificate, client: Option<SocketAddr>) {
        let event = refused.event(&self.resource, client).into();
        if let Err(err) = self.audit.accept(event, Durability::Soon).await {
            tracing::warn!(%err, "a refused certificate could not be recorded");
        }
    }
}

/// Ends a connection so that the alert which says why arrives: to close on bytes that nobody has
/// read would reset it, and the alert would be lost with it.
async fn take_leave<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let leave = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LEAVE_BYTES), &mut tokio::io::sink()).await
    };
    drop(timeout(LEAVE, leave).await);
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("resource", &self.resource).finish_non_exhaustive()
    }
}
