//! TLS by the cluster's authorities: what `rustls` is told to trust and to show (feature `tls`).
//!
//! No socket is opened here; this makes the configurations. All of them take ring, TLS 1.2 or
//! later, and no session tickets: a resumed session would skip the verification of the client's
//! certificate, and with it an authority's removal.

mod client;
mod key;
mod origin;
mod refused;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

pub use client::{ServerTrust, client_config};
pub use key::SharedKey;
pub use origin::{
    Ends, HEADER_START, HelloDigest, MAX_CLOCK_DIFFERENCE, MAX_HEADER, Origin, OriginError,
    VerifiedOrigin, hello_digest, origin_length, starts_origin, write_origin,
};
pub use refused::{NoteRefused, RefusedCertificate, noting};
pub use server::{ClientAuth, RefusedClients, peer_identity, server_config};

use crate::identity::VerifyError;
use crate::time::{Clock, Timestamp, ValidityError};

/// The ALPN of an agent's tunnel.
pub const ALPN_TUNNEL: &[u8] = b"access-tunnel";
/// The ALPN of a link between proxies.
pub const ALPN_PEER: &[u8] = b"access-peer";
/// The ALPN of SSH inside TLS.
pub const ALPN_SSH: &[u8] = b"access-ssh";
/// The ALPN of PostgreSQL (<https://www.postgresql.org/docs/17/protocol-flow.html#PROTOCOL-FLOW-SSL>).
pub const ALPN_POSTGRESQL: &[u8] = b"postgresql";
/// The ALPN of HTTP/2, which the API speaks.
pub const ALPN_H2: &[u8] = b"h2";
/// The ALPN of HTTP/1.1.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// What cannot be made into a TLS configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The key does not belong to the certificate, or is of a kind that is not supported.
    #[error("the private key cannot be used with its certificate: {0}")]
    Key(rustls::Error),
    /// Anything else that the library refuses.
    #[error("TLS cannot be configured: {0}")]
    Config(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Lets `rustls` read the caller's clock.
struct ClockTime(Arc<dyn Clock>);

impl std::fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.now().as_secs()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs)))
    }
}

fn timestamp(now: UnixTime) -> Timestamp {
    Timestamp::from_secs(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// The alert that a peer gets: which sort of refusal, and nothing that would help a stranger.
fn refusal(err: &VerifyError) -> rustls::Error {
    use rustls::CertificateError as Cert;
    let cert = match err {
        VerifyError::Missing => return rustls::Error::NoCertificatesPresented,
        VerifyError::Time(ValidityError::Expired(_)) => Cert::Expired,
        VerifyError::Time(_) => Cert::NotValidYet,
        VerifyError::Malformed(_) => Cert::BadEncoding,
        VerifyError::Untrusted => Cert::UnknownIssuer,
        _ => Cert::ApplicationVerificationFailure,
    };
    cert.into()
}
