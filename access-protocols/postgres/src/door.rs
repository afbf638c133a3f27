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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::handler::{PostgresServer, Refused};
use crate::prelude::{self, Opened, take_leave};
use crate::tls::ALPN_POSTGRESQL;
use crate::wire::{Failure, sqlstate};

/// How long a client whose certificate was refused has to read the alert.
const LEAVE: Duration = Duration::from_secs(5);

/// The front door of one database: a client's first words, TLS, and who shows which certificate.
///
/// It does not limit how many connections there are; whoever accepts them does, and gives each an
/// [`Admission`] if strangers have less room than others. Each has the server's `startup_deadline`
/// for its first words, and again for TLS.
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
    /// far as that is possible. First words that are none, or do not come, and a certificate that is
    /// not good have left an event, as often as one source may leave any.
    pub async fn serve<S>(&self, stream: S, client_addr: Option<SocketAddr>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.serve_admitted(stream, client_addr, Admission::unlimited()).await
    }

    /// The same for a client that is counted among strangers until it has shown a certificate.
    ///
    /// # Errors
    /// As [`Door::serve`].
    pub async fn serve_admitted<S>(
        &self,
        stream: S,
        client_addr: Option<SocketAddr>,
        admission: Admission,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let deadline = self.server.options().startup_deadline;
        let opened = match prelude::open(stream, deadline).await {
            Err(err) if err.kind() == io::ErrorKind::TimedOut => {
                let failure = Failure::fatal(sqlstate::PROTOCOL_VIOLATION, err.to_string());
                self.record_words(&failure, client_addr).await;
                return Err(err);
            }
            opened => opened?,
        };
        let stream = match opened {
            Opened::Tls(stream) => {
                let accept = noting(self.tls.accept(stream).into_fallible());
                match timeout(deadline, accept).await? {
                    (Ok(stream), _) => stream,
                    (Err((err, mut stream)), noted) => {
                        if let Some(refused) = noted.or_else(|| RefusedCertificate::unproven(&err))
                        {
                            self.record(&refused, client_addr).await;
                        }
                        drop(timeout(LEAVE, take_leave(&mut stream)).await);
                        return Err(err);
                    }
                }
            }
            Opened::Cancel(request) => {
                self.server.cancel(&request, client_addr).await;
                return Ok(());
            }
            Opened::Refused(failure) => {
                self.record_words(&failure, client_addr).await;
                return Ok(());
            }
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
        let admission = match peer {
            Some(_) => Admission::unlimited(),
            None => admission,
        };
        let incoming = Incoming {
            stream: Box::new(stream),
            peer,
            resource: self.resource.clone(),
            client_addr,
            trace_id: TraceId::from_random(rand::random()),
            session: None,
            admission,
        };
        self.server.serve(incoming).await;
        Ok(())
    }

    /// Completes when what connections that were dropped have left to be done is done; see
    /// [`Protocol::drained`].
    pub async fn drained(&self) {
        self.server.drained().await;
    }

    /// Writes down that a client's first words were refused.
    async fn record_words(&self, failure: &Failure, client_addr: Option<SocketAddr>) {
        let refused = Refused { who: None, login: None, resource: &self.resource, client_addr };
        self.server.note_refused(&refused, failure).await;
    }

    /// Writes down that a certificate was refused, which holds whether that can be written or not.
    async fn record(&self, refused: &RefusedCertificate, client: Option<SocketAddr>) {
        if !self.server.may_tell(client) {
            return;
        }
        let event = refused.event(&self.resource, client).into();
        if let Err(err) = self.audit.accept(event, Durability::Soon).await {
            tracing::warn!(%err, "a refused certificate could not be recorded");
        }
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("resource", &self.resource).finish_non_exhaustive()
    }
}
