//! The certificate that a process shows, replaced while it runs.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{TlsError, provider};

/// A certificate and its key, shown by servers and clients alike. Handshakes take the one of
/// their moment, so a renewed certificate needs no restart.
#[derive(Debug, Default)]
pub struct SharedKey(ArcSwapOption<CertifiedKey>);

impl SharedKey {
    /// Shows nothing until [`SharedKey::replace`] is called.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Shows a chain, leaf first and root last, with the leaf's key.
    ///
    /// # Errors
    /// [`TlsError::Key`] when the key is not the leaf's or of an unknown kind.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let shared = Self::empty();
        shared.replace(chain, key)?;
        Ok(shared)
    }

    /// Shows another chain from now on.
    ///
    /// # Errors
    /// [`TlsError::Key`] when the key is not the leaf's or of an unknown kind; the former chain
    /// stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::Key)?;
        self.0.store(Some(Arc::new(key)));
        Ok(())
    }

    /// The chain that is shown at the moment.
    pub fn chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.0.load().as_ref().map(|key| key.cert.clone())
    }

    /// Signs with the leaf's key, by ECDSA on P-256 with SHA-256, in ASN.1; gives the leaf as
    /// well. For messages that begin as no handshake does.
    pub(super) fn sign(
        &self,
        message: &[u8],
    ) -> Result<(CertificateDer<'static>, Vec<u8>), TlsError> {
        let unfit = || TlsError::Key(rustls::Error::General("no P-256 key is there".into()));
        let key = self.0.load_full().ok_or_else(unfit)?;
        let leaf = key.cert.first().ok_or_else(unfit)?.clone();
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        let signer = key.key.choose_scheme(&schemes).ok_or_else(unfit)?;
        Ok((leaf, signer.sign(message).map_err(TlsError::Key)?))
    }
}

impl ResolvesServerCert for SharedKey {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl ResolvesClientCert for SharedKey {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }

    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}
