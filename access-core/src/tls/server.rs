//! The side that is connected to.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{
    CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};

use super::{ClockTime, TlsError, provider, refusal, timestamp};
use crate::identity::{SharedTrust, VerifiedIdentity, VerifyError};
use crate::time::{Clock, Timestamp};

/// What a server asks of its clients.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// Nothing.
    None,
    /// A certificate of the cluster if they have one; one that is not good ends the handshake.
    Optional(Arc<SharedTrust>),
    /// As [`ClientAuth::Optional`], with somebody who is told of those that are not good.
    Watched(Arc<SharedTrust>, Arc<dyn RefusedClients>),
    /// A certificate of the cluster.
    Required(Arc<SharedTrust>),
}

/// Is told of client certificates that end a handshake, which itself tells its peer no more than
/// an alert and its caller no more than that.
pub trait RefusedClients: std::fmt::Debug + Send + Sync + 'static {
    /// One was refused, in the poll of the handshake that it ended. Nothing in it is to be
    /// believed.
    fn refused(&self, leaf: &CertificateDer<'_>, why: &VerifyError);
}

/// A server's configuration.
///
/// # Errors
/// [`TlsError::Config`] when the library refuses it.
pub fn server_config(
    client_auth: ClientAuth,
    key: Arc<dyn ResolvesServerCert>,
    clock: Arc<dyn Clock>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ServerConfig::builder_with_details(provider, Arc::new(ClockTime(clock)))
        .with_safe_default_protocol_versions()?;
    let (trust, required, watcher) = match client_auth {
        ClientAuth::None => (None, false, None),
        ClientAuth::Optional(trust) => (Some(trust), false, None),
        ClientAuth::Watched(trust, watcher) => (Some(trust), false, Some(watcher)),
        ClientAuth::Required(trust) => (Some(trust), true, None),
    };
    let builder = match trust {
        None => builder.with_no_client_auth(),
        Some(trust) => {
            let verifier = Verifier { trust, algorithms, required, watcher };
            builder.with_client_cert_verifier(Arc::new(verifier))
        }
    };
    let mut config = builder.with_cert_resolver(key);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The identity behind a completed handshake; `None` when the client showed no certificate.
///
/// # Errors
/// [`VerifyError`] when the certificate that was good at the handshake is no longer, or carries
/// no identity.
pub fn peer_identity(
    connection: &CommonState,
    trust: &SharedTrust,
    now: Timestamp,
) -> Result<Option<VerifiedIdentity>, VerifyError> {
    match connection.peer_certificates() {
        None | Some([]) => Ok(None),
        Some(chain) => trust.load().verify_tls(chain, now).map(Some),
    }
}

#[derive(Debug)]
struct Verifier {
    trust: Arc<SharedTrust>,
    algorithms: WebPkiSupportedAlgorithms,
    required: bool,
    watcher: Option<Arc<dyn RefusedClients>>,
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: they would tell strangers which authorities there are.
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let mut chain = Vec::with_capacity(rest.len() + 1);
        chain.push(leaf.clone());
        chain.extend_from_slice(rest);
        match self.trust.load().verify_tls(&chain, timestamp(now)) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(err) => {
                if let Some(watcher) = &self.watcher {
                    watcher.refused(leaf, &err);
                }
                Err(refusal(&err))
            }
        }
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
