//! Authorities: what they are, how they are stored, what is trusted of them.

mod document;
mod root;

use std::sync::Arc;
use std::time::Duration;

use access_core::identity::{AuthorityKind, SpkiPin, TrustedAuthority};
use access_core::{ClusterName, Timestamp};
use rustls_pki_types::CertificateDer;
use ssh_key::public::KeyData;

pub use document::{ActiveKeys, AuthorityDocument, RotationPhase, TrustedKeys};
pub(crate) use root::TlsIssuer;

use crate::error::{Error, Result};
use crate::keys::{KeyAlgorithm, KeyPurpose, KeyStore, Signer};

/// What an authority is made from.
#[derive(Clone, Debug)]
pub struct NewAuthority {
    /// Whose it is.
    pub cluster: ClusterName,
    /// What it signs for.
    pub kind: AuthorityKind,
    /// The algorithm of its SSH half, where its kind [has one](AuthorityKind::has_ssh);
    /// [`KeyAlgorithm::Ed25519`] unless set. The TLS half is always ECDSA P-256, which every TLS
    /// library verifies.
    pub ssh_algorithm: KeyAlgorithm,
    /// How long its TLS root holds; [`NewAuthority::LIFETIME`] unless set. SSH keys have no end.
    pub lifetime: Duration,
}

impl NewAuthority {
    /// How long a root holds by default: ten years, because rotation, not expiry, replaces it.
    pub const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

    /// An authority with the usual algorithms and lifetime.
    pub fn new(cluster: ClusterName, kind: AuthorityKind) -> Self {
        Self { cluster, kind, ssh_algorithm: KeyAlgorithm::Ed25519, lifetime: Self::LIFETIME }
    }
}

/// An authority that can sign: its keys are open.
///
/// It has a TLS half, and an SSH half where its kind [has one](AuthorityKind::has_ssh). It signs
/// with one key of each, and trusts possibly more, while it rotates. Shared freely between threads; signing takes `&self`.
#[derive(Debug)]
pub struct Authority {
    document: AuthorityDocument,
    ssh: Option<Arc<dyn Signer>>,
    tls: TlsIssuer,
    trusted: TrustedAuthority,
}

impl Authority {
    /// Makes an authority with fresh keys. Store its [`document`](Authority::document).
    ///
    /// # Errors
    /// What the key store meets; [`Error::Policy`] when the lifetime is none.
    pub fn create(store: &dyn KeyStore, new: &NewAuthority, now: Timestamp) -> Result<Self> {
        let NewAuthority { cluster, kind, ssh_algorithm, lifetime } = new;
        let ssh = if kind.has_ssh() {
            let purpose = KeyPurpose::authority_ssh(*kind, cluster);
            Some(store.create(*ssh_algorithm, &purpose)?.0)
        } else {
            None
        };
        let (tls, tls_signer) =
            store.create(KeyAlgorithm::EcdsaP256, &KeyPurpose::authority_tls(*kind, cluster))?;
        let tls_root = root::self_signed(tls_signer.as_ref(), cluster, *kind, now, *lifetime)?;
        let document = AuthorityDocument {
            kind: *kind,
            cluster: cluster.clone(),
            phase: RotationPhase::Standby,
            active: ActiveKeys { ssh, tls, tls_root },
            additional_trusted: Vec::new(),
        };
        // Opened as it will be from storage, so that what cannot be opened is never stored.
        Self::open(store, document)
    }

    /// Opens a stored authority.
    ///
    /// # Errors
    /// The sealing errors, or [`Error::Stored`] when the document contradicts itself.
    pub fn open(store: &dyn KeyStore, document: AuthorityDocument) -> Result<Self> {
        let AuthorityDocument { kind, cluster, phase: _, active, additional_trusted } = &document;
        let ssh_halves = std::iter::once(active.ssh.is_some())
            .chain(additional_trusted.iter().map(|keys| keys.ssh.is_some()));
        if ssh_halves.into_iter().any(|has| has != kind.has_ssh()) {
            let wrong = if kind.has_ssh() { "is missing" } else { "is one too many" };
            return Err(Error::Stored(format!("its SSH key {wrong}")));
        }
        let ssh = active
            .ssh
            .as_ref()
            .map(|key| store.open(key, &KeyPurpose::authority_ssh(*kind, cluster)))
            .transpose()?;
        let tls = store.open(&active.tls, &KeyPurpose::authority_tls(*kind, cluster))?;
        let tls = TlsIssuer::new(tls, active.tls_root.clone())?;
        let trusted = document.trusted();
        Ok(Self { document, ssh, tls, trusted })
    }

    /// What it signs for.
    pub fn kind(&self) -> AuthorityKind {
        self.document.kind
    }

    /// Whose it is.
    pub fn cluster(&self) -> &ClusterName {
        &self.document.cluster
    }

    /// The stored form.
    pub fn document(&self) -> &AuthorityDocument {
        &self.document
    }

    /// The public form: every key that is trusted at the moment, the signing ones first.
    pub fn trusted(&self) -> &TrustedAuthority {
        &self.trusted
    }

    /// The key that signs SSH certificates, where the authority's kind
    /// [has one](AuthorityKind::has_ssh).
    pub fn ssh_key(&self) -> Option<&KeyData> {
        self.ssh.as_ref().map(|signer| signer.public_key().ssh())
    }

    /// The root that signs X.509 certificates.
    pub fn tls_root(&self) -> &CertificateDer<'static> {
        self.tls.root()
    }

    /// The pin of the root that signs X.509 certificates; the host authority's is the cluster's
    /// `ca_pin`. See [`TrustedAuthority::pins`] for those of all trusted roots.
    pub fn pin(&self) -> SpkiPin {
        SpkiPin::of_spki(self.tls.signer().public_key().spki_der())
    }

    pub(crate) fn ssh_signer(&self) -> Result<&dyn Signer> {
        self.ssh.as_deref().ok_or(Error::NoSshHalf(self.kind()))
    }

    pub(crate) fn tls_issuer(&self) -> &TlsIssuer {
        &self.tls
    }

    /// Whether a certificate of this cluster and kind is this authority's to sign.
    pub(crate) fn check(&self, wanted: AuthorityKind, cluster: &ClusterName) -> Result<()> {
        if self.kind() != wanted {
            return Err(Error::WrongAuthority { wanted, given: self.kind() });
        }
        if self.cluster() != cluster {
            return Err(Error::OtherCluster {
                authority: self.cluster().clone(),
                identity: cluster.clone(),
            });
        }
        Ok(())
    }
}
