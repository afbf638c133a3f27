//! Asks Auth itself, reached directly, which cluster it is: by its certificate.
//!
//! Auth answers to `auth.CLUSTER` alone, and the name of the cluster is not known yet. So the
//! handshake goes by the pin, without a name, and the cluster's name is read off the pinned root
//! itself. Nothing is sent over that connection.

use std::sync::Arc;
use std::time::Duration;

use access_client::{CONNECT_DEADLINE, ClientError, HostPort, dial_tcp};
use access_core::ClusterName;
use access_core::identity::{SpkiPin, cluster_of_root};
use access_core::time::Clock;
use access_core::tls::TlsError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

/// The cluster whose Auth answers at an address, by the pin.
pub(super) async fn discover(
    address: &HostPort,
    pins: &[SpkiPin],
    clock: &Arc<dyn Clock>,
) -> Result<ClusterName, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = PinOnly { pins: pins.to_vec(), provider: Arc::clone(&provider) };
    let time = Arc::new(Time(Arc::clone(clock)));
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![access_core::tls::ALPN_H2.to_vec()];

    let unreachable = |why: String| ClientError::Unreachable { address: address.to_string(), why };
    let tcp = dial_tcp(address).await?;
    let connect = TlsConnector::from(Arc::new(config)).connect(address.server_name()?, tcp);
    let stream = tokio::time::timeout(CONNECT_DEADLINE, connect)
        .await
        .map_err(|_| unreachable("no TLS handshake in time".into()))?
        .map_err(|err| {
            match err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls) => ClientError::of_handshake(address, tls),
                None => unreachable(err.to_string()),
            }
        })?;
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    let root = chain.iter().find(|cert| is_pinned(pins, cert));
    root.and_then(cluster_of_root).ok_or_else(|| ClientError::WrongPeer {
        address: address.to_string(),
        why: "the pinned authority does not name its cluster".into(),
    })
}

fn is_pinned(pins: &[SpkiPin], certificate: &CertificateDer<'_>) -> bool {
    SpkiPin::of_certificate(certificate).is_ok_and(|pin| pins.contains(&pin))
}

#[derive(Debug)]
struct PinOnly {
    pins: Vec<SpkiPin>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinOnly {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let root = rest
            .iter()
            .find(|cert| is_pinned(&self.pins, cert))
            .ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let cert = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&cert, &roots, rest, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

struct Time(Arc<dyn Clock>);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.now().as_secs()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}
