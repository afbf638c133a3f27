//! The host key and the certificate that clients see.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ssh_key::certificate::CertType;
use ssh_key::{Certificate, PrivateKey};

use crate::error::SshError;

/// A host key with its certificate, to be replaced when the certificate is renewed. Clones share
/// what they hold; connections that are open keep what they began with.
#[derive(Clone)]
pub struct HostKeys {
    current: Arc<ArcSwap<HostIdentity>>,
}

pub(crate) struct HostIdentity {
    pub(crate) key: PrivateKey,
    pub(crate) certificate: Certificate,
}

impl HostKeys {
    /// A key and the certificate that was issued for it.
    ///
    /// # Errors
    /// [`SshError::HostKey`] when the two do not belong together, or it is a user's certificate.
    pub fn new(key: PrivateKey, certificate: Certificate) -> Result<Self, SshError> {
        let identity = HostIdentity::new(key, certificate)?;
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(identity)) })
    }

    /// Replaces both, for connections that come from now on.
    ///
    /// # Errors
    /// As [`HostKeys::new`]; what was there before stays.
    pub fn replace(&self, key: PrivateKey, certificate: Certificate) -> Result<(), SshError> {
        self.current.store(Arc::new(HostIdentity::new(key, certificate)?));
        Ok(())
    }

    /// The certificate that is presented at the moment.
    pub fn certificate(&self) -> Certificate {
        self.current.load().certificate.clone()
    }

    pub(crate) fn current(&self) -> Arc<HostIdentity> {
        self.current.load_full()
    }
}

impl HostIdentity {
    fn new(key: PrivateKey, certificate: Certificate) -> Result<Self, SshError> {
        if key.is_encrypted() {
            return Err(SshError::HostKey("the key is encrypted: decrypt it first"));
        }
        if certificate.cert_type() != CertType::Host {
            return Err(SshError::HostKey("the certificate is a user's, not a host's"));
        }
        if certificate.public_key() != key.public_key().key_data() {
            return Err(SshError::HostKey("the certificate was issued for another key"));
        }
        Ok(Self { key, certificate })
    }
}

impl std::fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostKeys")
            .field("key_id", &self.current.load().certificate.key_id())
            .finish()
    }
}
