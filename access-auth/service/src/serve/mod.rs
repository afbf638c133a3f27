//! Serving: over TLS to everybody, over a local socket or a pipe to the host's administrator.

mod connection;
mod guard;
mod origin;
mod timely;
mod tls;

pub(crate) use guard::Guard;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access_core::reach::Stream;
use access_core::tls::{ALPN_H2, ClientAuth, peer_identity, server_config};
use futures::StreamExt;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use self::connection::Connection;
use crate::api::Api;
use crate::caller::Peer;
use crate::error::{Error, Result};
use crate::service::AuthService;

/// Calls that one connection may have open at once.
const STREAMS: u32 = 256;
/// How often a silent client is asked whether it is still there, and how long it may take.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long clients have to end what they do when the service shuts down.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections that have been accepted and wait to be served.
const ACCEPTED: usize = 64;
/// How long a client whose handshake failed has to read why, and the most bytes that it may still
/// send meanwhile.
const LEAVE: Duration = Duration::from_secs(5);
const LEAVE_BYTES: u64 = 256 * 1024;

/// Where a connection comes from, and whether a proxy led it here and said so.
struct Comer {
    address: Option<SocketAddr>,
    led: bool,
}

impl AuthService {
    /// Serves the API over TLS to whoever connects, until `shutdown` completes; calls that are
    /// open then have ten seconds to finish.
    ///
    /// Clients prove who they are by a certificate of the cluster, or call as strangers. The
    /// service shows a certificate for `auth.CLUSTER`.
    ///
    /// # Errors
    /// [`Error::Internal`] when TLS can't be configured; a connection that fails ends alone.
    pub async fn serve_tls(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        let acceptor = self.acceptor()?;
        let (accepted, connections) = tokio::sync::mpsc::channel(ACCEPTED);
        let mut accepting = Box::pin(tls::accept(self.clone(), listener, acceptor, accepted));
        let serving = self.serve(ReceiverStream::new(connections));
        tokio::pin!(serving, shutdown);
        tokio::select! {
            () = &mut accepting => {}
            () = &mut shutdown => {}
            () = self.inner.closing.cancelled() => {}
            served = &mut serving => return served,
        }
        // Nothing is accepted any more: with the last sender gone, clients are asked to go, and
        // have some time to.
        drop(accepting);
        match tokio::time::timeout(DRAIN, serving).await {
            Ok(served) => served,
            Err(_) => Ok(()),
        }
    }

    /// Serves one connection that somebody else has accepted: a stream that begins with the
    /// client's TLS, and the address that it comes from.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when the handshake fails, [`Error::Deadline`] when it takes too
    /// long.
    pub async fn serve_tls_stream(
        &self,
        stream: impl Stream,
        address: Option<SocketAddr>,
    ) -> Result<()> {
        let from = Comer { address, led: false };
        let by = Instant::now() + self.inner.limits.handshake;
        let connection = self.handshake(&self.acceptor()?, stream, from, by).await?;
        self.serve_one(connection).await
    }

    /// Serves a local socket: whoever may open it is the administrator of this host. The socket's
    /// file must be its owner's alone.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub async fn serve_unix(
        &self,
        listener: UnixListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let closing = self.inner.closing.clone();
        let connections = futures::stream::unfold(listener, |listener| async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        return Some((Connection::local(stream), listener));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a local connection cannot be accepted");
                        tokio::time::sleep(tls::ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        let until = async move {
            tokio::select! {
                () = shutdown => {}
                () = closing.cancelled() => {}
            }
        };
        self.serve(connections.take_until(until)).await
    }

    /// Serves a stream to the administrator of this host: one half of a pipe within the process.
    /// Ends with the stream.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub async fn serve_local(&self, stream: impl Stream) -> Result<()> {
        self.serve_one(Connection::local(stream)).await
    }

    /// The other end of a pipe to this service, for the administrator of this host, who may be
    /// this process itself. It is served until it is dropped.
    pub fn local_pipe(&self) -> tokio::io::DuplexStream {
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        let service = self.clone();
        // Not tracked: it ends with the pipe, or with the service.
        tokio::spawn(async move {
            if let Err(error) = service.serve_local(ours).await {
                tracing::debug!(%error, "a local connection ended");
            }
        });
        theirs
    }

    fn acceptor(&self) -> Result<TlsAcceptor> {
        let auth = ClientAuth::Optional(self.trust());
        let key = self.inner.key.clone();
        let config = server_config(auth, key, self.inner.clock.clone(), &[ALPN_H2])
            .map_err(|err| Error::Internal(err.to_string()))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    async fn handshake<S: Stream>(
        &self,
        acceptor: &TlsAcceptor,
        stream: S,
        from: Comer,
        by: Instant,
    ) -> Result<Connection> {
        let Comer { address, led } = from;
        let accepted = tokio::time::timeout_at(by, acceptor.accept(stream).into_fallible())
            .await
            .map_err(|_| Error::Deadline("the TLS handshake took too long".into()))?;
        let stream = match accepted {
            Ok(stream) => stream,
            Err((err, stream)) => {
                take_leave(stream).await;
                return Err(Error::Unauthenticated(format!("the TLS handshake failed: {err}")));
            }
        };
        let (_, session) = stream.get_ref();
        if led && !is_bound(session) {
            let why = "through a proxy it takes TLS 1.3 and the first ClientHello";
            return Err(Error::Unauthenticated(why.into()));
        }
        let refused = |err| Error::Unauthenticated(format!("{err}"));
        let trust = self.inner.live.trust();
        // The handshake has proved the key; who it is, the certificate says.
        let peer = match peer_identity(session, trust, self.now()).map_err(refused)? {
            None => Peer::stranger(address, &self.inner.limits),
            Some(_) => {
                let chain = session.peer_certificates().unwrap_or_default();
                let chain = chain.iter().map(|cert| cert.clone().into_owned()).collect();
                Peer::tls(address, chain, trust, self.now(), &self.inner.limits).map_err(refused)?
            }
        };
        Ok(Connection::new(stream, peer))
    }

    /// Serves one connection to its end.
    async fn serve_one(&self, connection: Connection) -> Result<()> {
        let ended = CancellationToken::new();
        let connection = connection.telling(ended.clone());
        // The end of the stream would ask the connection to end, so it comes with the connection's.
        let connections = futures::stream::iter([connection])
            .chain(futures::stream::pending())
            .take_until(ended.cancelled_owned());
        self.serve(connections).await
    }

    async fn serve(
        &self,
        connections: impl futures::Stream<Item = Connection> + Send + 'static,
    ) -> Result<()> {
        let closing = self.inner.closing.clone();
        let connections = connections.map(Ok::<_, std::io::Error>);
        Server::builder()
            .max_concurrent_streams(STREAMS)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .http2_max_header_list_size(16 * 1024)
            .initial_connection_window_size(2 * 1024 * 1024)
            .initial_stream_window_size(512 * 1024)
            .layer(self.inner.guard.clone())
            .add_routes(Api::routes(self))
            .serve_with_incoming_shutdown(connections, closing.cancelled_owned())
            .await
            .map_err(|err| Error::Internal(err.to_string()))
    }
}

/// Lets a client read the alert that was sent to it. In TLS 1.3 its first request is on the way
/// before it learns that its certificate was refused; to close on bytes that nobody has read would
/// reset the connection, and the alert would be lost with it.
async fn take_leave(mut stream: impl Stream) {
    let leave = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LEAVE_BYTES), &mut tokio::io::sink()).await
    };
    // A client that is gone needs no answer, and one that stays has had its time.
    drop(tokio::time::timeout(LEAVE, leave).await);
}

/// Whether the session's keys follow from the ClientHello that a proxy vouched for: not so before
/// TLS 1.3, where they come in a later message, nor when another ClientHello was asked for.
fn is_bound(session: &ServerConnection) -> bool {
    session.protocol_version() == Some(ProtocolVersion::TLSv1_3)
        && session.handshake_kind() == Some(HandshakeKind::Full)
}
