//! TLS to databases, by the modes that `libpq` has
//! (<https://www.postgresql.org/docs/current/libpq-ssl.html>).

use std::path::PathBuf;
use std::sync::Arc;

use access_core::credentials::TargetCertificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::ring::kx_group::{SECP256R1, SECP384R1, X25519};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::PostgresError;
use crate::roots::Roots;

/// The ALPN of PostgreSQL's protocol.
pub const ALPN_POSTGRESQL: &[u8] = b"postgresql";

/// What is verified of a database's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsMode {
    /// That one of the roots vouches for it, and that it is for the host.
    #[default]
    VerifyFull,
    /// That one of the roots vouches for it, for whatever name.
    VerifyCa,
    /// Nothing: the connection is encrypted, and may be somebody else's.
    Require,
}

/// TLS to a database.
#[derive(Clone, Debug)]
pub struct TargetTls {
    mode: TlsMode,
    server_name: Option<ServerName<'static>>,
    direct: bool,
    provider: Arc<CryptoProvider>,
    roots: Roots,
}

impl TargetTls {
    /// Verifies as the mode says, by these roots.
    ///
    /// # Errors
    /// [`PostgresError::NoRoots`] and [`PostgresError::Root`].
    pub fn new(
        mode: TlsMode,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, PostgresError> {
        let roots = Roots::fixed(roots)?;
        if roots.is_empty() && mode != TlsMode::Require {
            return Err(PostgresError::NoRoots);
        }
        Ok(Self::by(mode, roots))
    }

    /// Verifies as the mode says, by the roots in a file of PEM. It is followed: each session is
    /// held against what it says then, and as long as it cannot be used, against what it said
    /// last.
    ///
    /// # Errors
    /// [`PostgresError::RootFile`] when it cannot be used now.
    pub fn following(mode: TlsMode, path: impl Into<PathBuf>) -> Result<Self, PostgresError> {
        Ok(Self::by(mode, Roots::file(path.into())?))
    }

    fn by(mode: TlsMode, roots: Roots) -> Self {
        let provider = Arc::new(CryptoProvider {
            // Before version 18, PostgreSQL takes P-256 alone unless it is told otherwise, and all
            // take it: another key first would cost a round trip.
            kx_groups: vec![SECP256R1, X25519, SECP384R1],
            ..rustls::crypto::ring::default_provider()
        });
        Self { mode, server_name: None, direct: false, provider, roots }
    }

    /// Holds the certificate against this name or address, not against the host that is dialled.
    ///
    /// # Errors
    /// [`PostgresError::ServerName`] when it is none.
    pub fn server_name(mut self, name: &str) -> Result<Self, PostgresError> {
        let parsed = ServerName::try_from(name.to_owned());
        self.server_name = Some(parsed.map_err(|_| PostgresError::ServerName(name.to_owned()))?);
        Ok(self)
    }

    /// Begins with TLS and the ALPN `postgresql`, without asking for it first: PostgreSQL 17 and
    /// later.
    #[must_use]
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    pub(crate) const fn is_direct(&self) -> bool {
        self.direct
    }

    /// The name to ask for at a host.
    pub(crate) fn name_for(&self, host: &str) -> Result<ServerName<'static>, PostgresError> {
        if let Some(name) = &self.server_name {
            return Ok(name.clone());
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match ServerName::try_from(bare.to_owned()) {
            Ok(name) => Ok(name),
            Err(_) if self.mode == TlsMode::VerifyFull => {
                Err(PostgresError::ServerName(host.to_owned()))
            }
            // Nothing is held against it.
            Err(_) => Ok(ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())),
        }
    }

    /// A configuration for one session.
    pub(crate) fn config(
        &self,
        certificate: Option<&TargetCertificate>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let algorithms = self.provider.signature_verification_algorithms;
        let verifier = Verifier { mode: self.mode, roots: self.roots.now(), algorithms };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match certificate {
            Some(certificate) => {
                builder.with_client_cert_resolver(Arc::new(One(Arc::clone(&certificate.key))))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        if self.direct {
            config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
        }
        Ok(Arc::new(config))
    }
}

/// Shows one certificate whatever is asked for.
#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesClientCert for One {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Verifier {
    mode: TlsMode,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.mode != TlsMode::Require {
            let cert = ParsedCertificate::try_from(leaf)?;
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&cert, &self.roots, rest, now, algorithms)?;
            if self.mode == TlsMode::VerifyFull {
                verify_server_name(&cert, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
