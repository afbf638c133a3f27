//! Certificates, ready to be handed out.

use access_core::Validity;
use access_core::identity::Identity;
use rustls_pki_types::CertificateDer;
use ssh_key::Certificate;

use crate::error::{Error, Result};
use crate::text::pem;

/// Signed certificates of one draft.
#[derive(Clone, Debug)]
pub struct Signed {
    pub(super) identity: Option<Identity>,
    pub(super) validity: Validity,
    pub(super) ssh: Option<Certificate>,
    pub(super) tls: Option<(CertificateDer<'static>, CertificateDer<'static>)>,
    pub(super) tls_serial: [u8; 16],
}

impl Signed {
    /// The identity that they carry.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// When they hold.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The SSH certificate, when there was an SSH key. Its `serial()` is random and never zero.
    pub fn ssh(&self) -> Option<&Certificate> {
        self.ssh.as_ref()
    }

    /// The SSH certificate as the line of a `-cert.pub` file, without a line feed.
    ///
    /// # Errors
    /// [`Error::SshKey`] when it cannot be encoded.
    pub fn ssh_openssh(&self) -> Result<Option<String>> {
        self.ssh
            .as_ref()
            .map(|certificate| {
                certificate
                    .to_openssh()
                    .map(|line| line.trim_end().to_owned())
                    .map_err(|err| Error::SshKey(err.to_string()))
            })
            .transpose()
    }

    /// The X.509 certificate, when there was a TLS key.
    pub fn tls_leaf(&self) -> Option<&CertificateDer<'static>> {
        self.tls.as_ref().map(|(leaf, _)| leaf)
    }

    /// The X.509 certificate and the root that signed it, leaf first; empty when there was no TLS
    /// key. Servers present both, so that clients that know only the root's pin can verify them.
    pub fn tls_chain(&self) -> Vec<CertificateDer<'static>> {
        self.tls.iter().flat_map(|(leaf, root)| [leaf.clone(), root.clone()]).collect()
    }

    /// The chain as PEM, leaf first; empty when there was no TLS key.
    pub fn tls_chain_pem(&self) -> String {
        self.tls.iter().flat_map(|(leaf, root)| [pem(leaf), pem(root)]).collect()
    }

    /// The serial number of the X.509 certificate, big-endian and positive.
    pub fn tls_serial(&self) -> Option<[u8; 16]> {
        self.tls.as_ref().map(|_| self.tls_serial)
    }
}
