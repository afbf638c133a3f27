//! Connections to the proxy's port, or to Auth's own: TCP, then TLS with whom the name says.
//!
//! This is the one file of the crate that dials.

use std::sync::Arc;
use std::time::Duration;

use access_core::ids::ClusterName;
use access_core::time::Clock;
use access_core::tls::{ServerTrust, SharedKey, client_config};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::HostPort;
use crate::error::{ClientError, causes};

/// How long a connection may take to be made, TLS included.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(15);

/// Why nobody was reached, when a proxy says that it knows nobody of that name.
pub const NOBODY: &str = "nobody answers to that name there now";

/// The name under which Auth is reached, through a proxy or directly: `auth.CLUSTER`.
pub fn auth_name(cluster: &ClusterName) -> String {
    format!("auth.{cluster}")
}

/// Opens TCP to an address, trying each that its name has.
///
/// # Errors
/// [`ClientError::Unreachable`].
pub async fn dial_tcp(address: &HostPort) -> Result<TcpStream, ClientError> {
    let unreachable = |why: String| ClientError::Unreachable { address: address.to_string(), why };
    #[allow(clippy::disallowed_methods, reason = "the one place here that dials")]
    let dialled = TcpStream::connect((address.host(), address.port()));
    let stream = tokio::time::timeout(CONNECT_DEADLINE, dialled)
        .await
        .map_err(|_| unreachable(format!("no answer within {} s", CONNECT_DEADLINE.as_secs())))?
        .map_err(|err| unreachable(err.to_string()))?;
    stream.set_nodelay(true).map_err(|err| unreachable(err.to_string()))?;
    Ok(stream)
}

/// How TLS is spoken with one peer, whichever way it is reached.
#[derive(Clone)]
pub struct TlsDialer {
    config: Arc<rustls::ClientConfig>,
}

impl TlsDialer {
    /// A dialer with a trust, a certificate to show if asked, and the protocols to offer.
    ///
    /// # Errors
    /// [`ClientError::Tls`].
    pub fn new(
        trust: ServerTrust,
        key: Option<Arc<SharedKey>>,
        clock: Arc<dyn Clock>,
        alpn: &[&[u8]],
    ) -> Result<Self, ClientError> {
        Ok(Self { config: Arc::new(client_config(trust, key, clock, alpn)?) })
    }

    /// Connects to `address` and has it prove to be `name`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], or [`ClientError::WrongPeer`] when the proof fails,
    /// [`ClientError::Untimely`] when that is for the time.
    pub async fn connect(
        &self,
        address: &HostPort,
        name: ServerName<'static>,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let tcp = dial_tcp(address).await?;
        self.connect_over(tcp, address, name).await
    }

    /// Has whoever is at the other end of a stream, which leads to `address`, prove to be `name`.
    ///
    /// # Errors
    /// As those of [`TlsDialer::connect`].
    pub async fn connect_over<S>(
        &self,
        stream: S,
        address: &HostPort,
        name: ServerName<'static>,
    ) -> Result<TlsStream<S>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream);
        match tokio::time::timeout(CONNECT_DEADLINE, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(err)) => Err(handshake_error(address, &err)),
            Err(_) => Err(ClientError::Unreachable {
                address: address.to_string(),
                why: "no TLS handshake in time".into(),
            }),
        }
    }
}

impl std::fmt::Debug for TlsDialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsDialer").finish_non_exhaustive()
    }
}

fn handshake_error(address: &HostPort, err: &std::io::Error) -> ClientError {
    match err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => ClientError::of_handshake(address, tls),
        None => ClientError::Unreachable { address: address.to_string(), why: causes(err) },
    }
}
