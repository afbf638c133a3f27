//! The side that connects.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::{ClockTime, SharedKey, TlsError, provider};
use crate::identity::{AuthorityKind, SharedTrust, SpkiPin, cluster_of_root};
use crate::ids::ClusterName;
use crate::time::Clock;

/// What a client trusts its server by.
#[derive(Clone, Debug)]
pub enum ServerTrust {
    /// The cluster's host authority, and the name.
    HostAuthority(Arc<SharedTrust>),
    /// A root with one of these pins, presented at the end of the chain, and the name: for the
    /// first contact, before the authority is known. Good for names that nobody relies on, such
    /// as that of a proxy's web side; for Auth it takes [`ServerTrust::PinnedCluster`].
    Pins(Vec<SpkiPin>),
    /// The same, and the root must be that of this cluster: a name is asked for on somebody's
    /// word at the first contact, and only the pinned root itself says which cluster it is.
    PinnedCluster {
        /// The pins.
        pins: Vec<SpkiPin>,
        /// The cluster that the name belongs to.
        cluster: ClusterName,
    },
    /// These roots, and the name: for a certificate of a public authority.
    Roots(Arc<RootCertStore>),
}

/// A client's configuration; `key` is shown when the server asks for a certificate.
///
/// # Errors
/// [`TlsError::Config`] when the library refuses it.
pub fn client_config(
    trust: ServerTrust,
    key: Option<Arc<SharedKey>>,
    clock: Arc<dyn Clock>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_details(provider, Arc::new(ClockTime(clock)))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { trust, algorithms }));
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(key),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[derive(Debug)]
struct Verifier {
    trust: ServerTrust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// The roots that may vouch for this chain.
    fn roots(&self, rest: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, rustls::Error> {
        match &self.trust {
            ServerTrust::Roots(roots) => Ok(Arc::clone(roots)),
            ServerTrust::HostAuthority(trust) => {
                let trust = trust.load();
                let roots = trust.tls_anchors(AuthorityKind::Host).cloned().collect();
                Ok(Arc::new(RootCertStore { roots }))
            }
            ServerTrust::Pins(pins) => pinned(pins, rest).and_then(only),
            ServerTrust::PinnedCluster { pins, cluster } => {
                let root = pinned(pins, rest)?;
                if cluster_of_root(root).as_ref() != Some(cluster) {
                    return Err(CertificateError::UnknownIssuer.into());
                }
                only(root)
            }
        }
    }
}

/// The certificate of a chain that has one of the pins.
fn pinned<'a>(
    pins: &[SpkiPin],
    rest: &'a [CertificateDer<'a>],
) -> Result<&'a CertificateDer<'a>, rustls::Error> {
    rest.iter()
        .find(|cert| SpkiPin::of_certificate(cert).is_ok_and(|pin| pins.contains(&pin)))
        .ok_or_else(|| CertificateError::UnknownIssuer.into())
}

fn only(root: &CertificateDer<'_>) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone().into_owned())?;
    Ok(Arc::new(roots))
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
        let cert = ParsedCertificate::try_from(leaf)?;
        let roots = self.roots(rest)?;
        verify_server_cert_signed_by_trust_anchor(&cert, &roots, rest, now, self.algorithms.all)?;
        verify_server_name(&cert, name)?;
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
