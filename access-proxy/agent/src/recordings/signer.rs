//! Signs with the key of the moment at which a recording ends.

use std::fmt;
use std::sync::OnceLock;

use access_core::recording::{
    KeyAlgorithm, RecorderKey, RecordingError, RecordingSigner, RingSigner,
};
use rustls_pki_types::CertificateDer;

use super::SignerSource;

/// Takes the key when it is first asked, and keeps it: a session may outlive the certificate that
/// the host had at its start.
pub(super) struct LateSigner {
    source: SignerSource,
    taken: OnceLock<Result<RingSigner, RecordingError>>,
}

impl LateSigner {
    pub(super) fn new(source: SignerSource) -> Self {
        Self { source, taken: OnceLock::new() }
    }

    fn signer(&self) -> &Result<RingSigner, RecordingError> {
        self.taken.get_or_init(|| (self.source)())
    }
}

impl RecordingSigner for LateSigner {
    fn public_key(&self) -> RecorderKey {
        match self.signer() {
            Ok(signer) => signer.public_key(),
            // `sign` says what is wrong.
            Err(_) => RecorderKey::new(KeyAlgorithm::EcdsaP256, Vec::new()),
        }
    }

    fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.signer().as_ref().map_or_else(|_| Vec::new(), RingSigner::certificates)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RecordingError> {
        self.signer().as_ref().map_err(Clone::clone)?.sign(message)
    }
}

impl fmt::Debug for LateSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateSigner").finish_non_exhaustive()
    }
}
