//! The TLS of clients, which ends here, and what is refused in it.
//!
//! A client that shows a certificate which is not good (expired, another authority's, not its own)
//! leaves an event, as one does that shows such a certificate within SSH. One that closes, sends
//! garbage or takes too long has said nothing about anybody, and is counted only.

use std::sync::Arc;

use access_core::identity::SharedTrust;
use access_core::tls::{RefusedCertificate, noting, peer_identity};
use access_core::{Timestamp, VerifiedIdentity};
use access_tunnel::Stream;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refused {
    /// The client showed a certificate that is not good.
    Certificate(RefusedCertificate),
    /// Anything else.
    Other(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Certificate(refused) => refused.fmt(f),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl From<std::io::Error> for Refused {
    fn from(err: std::io::Error) -> Self {
        match RefusedCertificate::unproven(&err) {
            Some(refused) => Self::Certificate(refused),
            None => Self::Other(err.to_string()),
        }
    }
}

/// Ends the TLS of a client that asks for `name`; in `tls`,
/// [`NoteRefused`](access_core::tls::NoteRefused) watches.
pub(super) async fn handshake(
    stream: Stream,
    tls: Arc<rustls::ServerConfig>,
    name: &str,
    trust: &SharedTrust,
    now: impl FnOnce() -> Timestamp,
) -> Result<(TlsStream<Stream>, Option<VerifiedIdentity>), Refused> {
    let stream = match noting(accept(stream, tls, name)).await {
        (Ok(stream), _) => stream,
        (Err(_), Some(noted)) => return Err(Refused::Certificate(noted)),
        (Err(refused), None) => return Err(refused),
    };
    let (_, connection) = stream.get_ref();
    match peer_identity(connection, trust, now()) {
        Ok(peer) => Ok((stream, peer)),
        Err(err) => {
            let leaf = connection.peer_certificates().and_then(<[_]>::first);
            Err(Refused::Certificate(RefusedCertificate::new(leaf, err)))
        }
    }
}

async fn accept(
    stream: Stream,
    tls: Arc<rustls::ServerConfig>,
    name: &str,
) -> Result<TlsStream<Stream>, Refused> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    // The proxy led here by the name that it read; a client that asked for another one is not
    // where it wants to be.
    let asked = hello.client_hello().server_name().map(str::to_owned);
    if !asked.as_deref().is_some_and(|asked| asked.eq_ignore_ascii_case(name)) {
        return Err(Refused::Other(format!("the client asks for {asked:?}, not for {name}")));
    }
    match hello.into_stream(tls).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((err, mut stream)) => {
            // The alert that tells the client why is on its way: a stream that is dropped is
            // reset, and would take it back.
            drop(stream.shutdown().await);
            Err(err.into())
        }
    }
}
