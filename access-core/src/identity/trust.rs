//! The authorities that a process trusts.

use rustls_pki_types::{CertificateDer, TrustAnchor};
use serde::{Deserialize, Serialize};
use ssh_key::public::KeyData;

use super::seen::Seen;
use super::{PinError, SpkiPin, VerifyError};
use crate::ids::ClusterName;

/// What an authority signs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityKind {
    /// Users and bots.
    User,
    /// The cluster's own processes: agents, proxies, Auth.
    Host,
    /// Self-hosted database servers, towards the agents that connect to them.
    Db,
    /// Database accounts, towards the databases that trust this authority for their clients.
    DbClient,
}

impl AuthorityKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::User, Self::Host, Self::Db, Self::DbClient];

    /// The word in key paths and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Host => "host",
            Self::Db => "db",
            Self::DbClient => "db_client",
        }
    }

    /// Whether its certificates prove who somebody in the cluster is. Those of the others are for
    /// servers and accounts outside; [`TrustStore`] never makes an identity of one.
    pub const fn proves_identities(self) -> bool {
        match self {
            Self::User | Self::Host => true,
            Self::Db | Self::DbClient => false,
        }
    }

    /// Whether it signs SSH certificates too; one that does not has a TLS half alone.
    pub const fn has_ssh(self) -> bool {
        match self {
            Self::User | Self::Host => true,
            Self::Db | Self::DbClient => false,
        }
    }
}

impl std::fmt::Display for AuthorityKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The public halves of one authority: every key that is trusted at the moment, of which there
/// are several while the authority rotates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedAuthority {
    /// What it signs for.
    pub kind: AuthorityKind,
    /// Whose it is.
    pub cluster: ClusterName,
    /// Keys that sign SSH certificates; none unless [`AuthorityKind::has_ssh`].
    pub ssh: Vec<KeyData>,
    /// Self-signed roots that sign X.509 certificates.
    pub tls: Vec<CertificateDer<'static>>,
}

impl TrustedAuthority {
    /// The pins of its TLS roots: of the host authority, these are the cluster's `ca_pin`.
    ///
    /// # Errors
    /// [`PinError::Certificate`] when a root cannot be parsed.
    pub fn pins(&self) -> Result<Vec<SpkiPin>, PinError> {
        self.tls.iter().map(SpkiPin::of_certificate).collect()
    }
}

/// The cluster whose authority a self-signed root is: the organization in its subject
/// (RFC 5280, section 4.1.2.6). `None` when it names none, or more than one.
///
/// A pin vouches for the root, and with it for this name. A client that knows only the pin takes
/// the cluster's name from here, never from somebody's word: else a certificate of the same root
/// for `auth.` and any other name would do for Auth.
pub fn cluster_of_root(root: &CertificateDer<'_>) -> Option<ClusterName> {
    use x509_parser::prelude::FromDer;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(root).ok()?;
    let mut organizations = parsed.subject().iter_organization();
    let (first, second) = (organizations.next()?, organizations.next());
    if second.is_some() {
        return None;
    }
    ClusterName::new(first.as_str().ok()?).ok()
}

/// Everything that one cluster's processes trust; the only maker of
/// [`VerifiedIdentity`](super::VerifiedIdentity).
#[derive(Clone, Debug)]
pub struct TrustStore {
    pub(super) cluster: ClusterName,
    pub(super) authorities: Vec<Anchored>,
    pub(super) seen: Seen,
}

/// An authority with its roots parsed.
#[derive(Clone, Debug)]
pub(super) struct Anchored {
    pub(super) public: TrustedAuthority,
    pub(super) anchors: Vec<TrustAnchor<'static>>,
}

impl TrustStore {
    /// A store that trusts these authorities, each for what its kind says.
    ///
    /// # Errors
    /// [`VerifyError::OtherCluster`] when one is another cluster's, [`VerifyError::Malformed`]
    /// when a root cannot be parsed.
    pub fn new(
        cluster: ClusterName,
        authorities: impl IntoIterator<Item = TrustedAuthority>,
    ) -> Result<Self, VerifyError> {
        let authorities = authorities
            .into_iter()
            .map(|public| {
                if public.cluster != cluster {
                    return Err(VerifyError::OtherCluster(public.cluster));
                }
                let anchors = public
                    .tls
                    .iter()
                    .map(|root| Ok(webpki::anchor_from_trusted_cert(root)?.to_owned()))
                    .collect::<Result<_, webpki::Error>>()
                    .map_err(|err| VerifyError::Malformed(err.to_string()))?;
                Ok(Anchored { public, anchors })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { cluster, authorities, seen: Seen::default() })
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The authorities of a kind.
    pub fn of_kind(&self, kind: AuthorityKind) -> impl Iterator<Item = &TrustedAuthority> {
        self.anchored(kind).map(|authority| &authority.public)
    }

    /// Parsed roots of the authorities of a kind.
    pub fn tls_anchors(&self, kind: AuthorityKind) -> impl Iterator<Item = &TrustAnchor<'static>> {
        self.anchored(kind).flat_map(|authority| &authority.anchors)
    }

    /// Whether a key is one of those that sign SSH certificates of a kind.
    pub(super) fn trusts_ssh_key(&self, kind: AuthorityKind, key: &KeyData) -> bool {
        self.of_kind(kind).any(|authority| authority.ssh.contains(key))
    }

    fn anchored(&self, kind: AuthorityKind) -> impl Iterator<Item = &Anchored> {
        self.authorities.iter().filter(move |authority| authority.public.kind == kind)
    }
}

/// A [`TrustStore`] that is replaced as a whole while authorities rotate: what servers hold.
#[derive(Debug)]
pub struct SharedTrust(arc_swap::ArcSwap<TrustStore>);

impl SharedTrust {
    /// Shares a first store.
    pub fn new(store: TrustStore) -> Self {
        Self(arc_swap::ArcSwap::from_pointee(store))
    }

    /// The store of this moment. Take it once for each decision; do not keep it.
    pub fn load(&self) -> std::sync::Arc<TrustStore> {
        self.0.load_full()
    }

    /// Replaces the store: handshakes from now on are judged by the new one.
    pub fn replace(&self, store: TrustStore) {
        self.0.store(std::sync::Arc::new(store));
    }
}
