//! The TLS of clients, which ends here, and what is refused in it.
//!
//! A client that shows a certificate which is not good (expired, another authority's, not its own)
//! leaves an event, as one does that shows such a certificate within SSH. One that closes, sends
//! garbage or takes too long has said nothing about anybody, and is counted only.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use access_core::audit::events::{Auth as AuthEvent, Outcome};
use access_core::audit::{AuditSink, Durability, Text};
use access_core::identity::{SharedTrust, VerifyError, claimed_name};
use access_core::tls::{RefusedClients, peer_identity};
use access_core::{ResourceKind, ResourceRef, Timestamp, VerifiedIdentity};
use access_tunnel::Stream;
use rustls::server::Acceptor;
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

tokio::task_local! {
    /// The certificate that the handshake of this task was ended for.
    static NOTED: RefCell<Option<RefusedCertificate>>;
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refused {
    /// The client showed a certificate that is not good.
    Certificate(RefusedCertificate),
    /// Anything else.
    Other(String),
}

/// A certificate that is not good.
#[derive(Debug)]
pub(super) struct RefusedCertificate {
    /// Whom it names, which nobody need be.
    claimed: Text<256>,
    why: String,
}

/// Notes refused certificates for the handshakes that they end: the library tells their callers
/// no more than which alert was sent.
#[derive(Debug)]
pub(super) struct Notes;

impl RefusedClients for Notes {
    fn refused(&self, leaf: &CertificateDer<'_>, why: &VerifyError) {
        let refused = RefusedCertificate::new(Some(leaf), why.to_string());
        // Outside of a handshake nobody would read it.
        drop(NOTED.try_with(|noted| noted.replace(Some(refused))));
    }
}

impl RefusedCertificate {
    fn new(leaf: Option<&CertificateDer<'_>>, why: String) -> Self {
        let claimed = leaf.and_then(claimed_name);
        Self { claimed: claimed.as_deref().unwrap_or("unknown").into(), why }
    }

    /// Writes it down. A refusal that cannot be written down is a refusal all the same.
    pub(super) async fn record(
        self,
        audit: &dyn AuditSink,
        resource: &ResourceRef,
        client: Option<SocketAddr>,
    ) {
        let event = AuthEvent {
            outcome: Outcome::failed(self.why.as_str()),
            user: self.claimed,
            login: None,
            addr_remote: client.map(Text::of),
            server_hostname: Some(resource.name.as_str().into()),
            proto: Some(match resource.kind {
                ResourceKind::Node => "ssh".into(),
                kind => kind.as_str().into(),
            }),
        };
        if let Err(err) = audit.accept(event.into(), Durability::Soon).await {
            tracing::warn!(%err, "a refused certificate could not be recorded");
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Certificate(refused) => f.write_str(&refused.why),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl From<std::io::Error> for Refused {
    fn from(err: std::io::Error) -> Self {
        let inner = err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            // The certificate was good, but the client does not hold its key; or it was not, and
            // what was noted of that says more.
            Some(rustls::Error::InvalidCertificate(_)) => {
                Self::Certificate(RefusedCertificate::new(None, err.to_string()))
            }
            _ => Self::Other(err.to_string()),
        }
    }
}

/// Ends the TLS of a client that asks for `name`; `tls` tells [`Notes`] what it refuses.
pub(super) async fn handshake(
    stream: Stream,
    tls: Arc<rustls::ServerConfig>,
    name: &str,
    trust: &SharedTrust,
    now: impl FnOnce() -> Timestamp,
) -> Result<(TlsStream<Stream>, Option<VerifiedIdentity>), Refused> {
    let handshake = async {
        let done = accept(stream, tls, name).await;
        done.map_err(|refused| match NOTED.with(RefCell::take) {
            Some(noted) => Refused::Certificate(noted),
            None => refused,
        })
    };
    let stream = NOTED.scope(RefCell::default(), handshake).await?;
    let (_, connection) = stream.get_ref();
    match peer_identity(connection, trust, now()) {
        Ok(peer) => Ok((stream, peer)),
        Err(err) => {
            let leaf = connection.peer_certificates().and_then(<[_]>::first);
            Err(Refused::Certificate(RefusedCertificate::new(leaf, err.to_string())))
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
