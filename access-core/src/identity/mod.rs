//! Who somebody is, and the proof of it.
//!
//! An [`Identity`] is a claim: the document that a certificate carries. A [`VerifiedIdentity`] is
//! the only thing the [gate](crate::gate) takes, and only [`TrustStore`] makes one, by verifying
//! chain, trust, type and time.

mod pin;
mod seen;
mod source;
mod trust;
mod verify_ssh;
mod verify_tls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

pub use pin::{PinError, SpkiPin};
pub use source::{SourcePin, SourcePinError};
pub use trust::{AuthorityKind, SharedTrust, TrustStore, TrustedAuthority, cluster_of_root};
pub use verify_ssh::SSH_IDENTITY_EXTENSION;
pub use verify_tls::{X509_IDENTITY_OID, claimed_name};

pub(crate) use verify_ssh::check_critical_options;
pub(crate) use verify_tls::document;

use crate::ids::{ClusterName, HostId, Login, RoleName, UserName};
use crate::resource::ResourceRef;
use crate::time::{Timestamp, Validity};

/// Attributes of a user that role templates draw on: `logins: [alice, root]`.
pub type Traits = BTreeMap<String, BTreeSet<String>>;

/// What an agent, a proxy or a bot is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Serves a host by SSH.
    Node,
    /// Serves databases.
    Db,
    /// Serves web applications.
    App,
    /// Serves Kubernetes clusters.
    Kube,
    /// Serves Windows desktops.
    WindowsDesktop,
    /// The public front door.
    Proxy,
    /// An Auth replica.
    Auth,
    /// A machine user.
    Bot,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 8] = [
        Self::Node,
        Self::Db,
        Self::App,
        Self::Kube,
        Self::WindowsDesktop,
        Self::Proxy,
        Self::Auth,
        Self::Bot,
    ];

    /// The word for it in tokens and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Db => "db",
            Self::App => "app",
            Self::Kube => "kube",
            Self::WindowsDesktop => "windowsdesktop",
            Self::Proxy => "proxy",
            Self::Auth => "auth",
            Self::Bot => "bot",
        }
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whom a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// A person.
    User {
        /// Their name.
        name: UserName,
    },
    /// A machine user.
    Bot {
        /// Its name.
        name: UserName,
    },
    /// A process of the cluster itself: an agent, a proxy, an Auth replica.
    Host {
        /// Its id.
        id: HostId,
        /// What it is there for.
        services: BTreeSet<Service>,
        /// The resources that it owns; its certificate is made out to their names too.
        #[serde(default)]
        resources: Vec<ResourceRef>,
    },
}

impl Subject {
    /// The name for logs and events.
    pub fn name(&self) -> &str {
        match self {
            Self::User { name } | Self::Bot { name } => name.as_str(),
            Self::Host { id, .. } => id.as_str(),
        }
    }

    /// The user's or bot's name, when it is one.
    pub fn user(&self) -> Option<&UserName> {
        match self {
            Self::User { name } | Self::Bot { name } => Some(name),
            Self::Host { .. } => None,
        }
    }

    /// The SPIFFE id: `spiffe://CLUSTER/user/NAME`, `…/bot/NAME`, `…/agent/ID`.
    pub fn spiffe_id(&self, cluster: &ClusterName) -> String {
        let (kind, name) = match self {
            Self::User { name } => ("user", name.as_str()),
            Self::Bot { name } => ("bot", name.as_str()),
            Self::Host { id, .. } => ("agent", id.as_str()),
        };
        format!("spiffe://{cluster}/{kind}/{}", percent_path(name))
    }
}

/// One segment of a SPIFFE path: what is not unreserved (RFC 3986, section 2.3) is percent-coded.
fn percent_path(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// How a login proved a second factor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MfaProof {
    /// The device's name or id.
    pub device: String,
    /// When it was used.
    pub at: Timestamp,
}

/// The document that a certificate carries, in X.509 under [`X509_IDENTITY_OID`] and in SSH under
/// [`SSH_IDENTITY_EXTENSION`]: JSON, versioned.
///
/// A claim only, until [`TrustStore`] has verified what carries it. An unknown field is an error:
/// an enforcer that cannot read all of an identity must not act on the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// [`Identity::VERSION`].
    pub version: u32,
    /// The cluster whose authority vouches for it.
    pub cluster: ClusterName,
    /// Whom it speaks for.
    pub subject: Subject,
    /// Roles held; none for hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RoleName>,
    /// Traits held, for role templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub traits: Traits,
    /// Accounts that the certificate may be used for: SSH principals. What is not here is denied,
    /// whatever the roles say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logins: Vec<Login>,
    /// When it was issued. Compared with the user's `valid_after`.
    pub issued_at: Timestamp,
    /// Counts a bot's or host's renewals; a copy that renews too makes the count disagree.
    #[serde(default)]
    pub generation: u64,
    /// Addresses it may be used from; everywhere when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_pin: Option<SourcePin>,
    /// The second factor that the login proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa: Option<MfaProof>,
    /// The one resource that it may be used for, when it was issued for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<ResourceRef>,
    /// Access requests that lent roles to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_requests: Vec<String>,
}

impl Identity {
    /// The version that this crate writes and the only one that it reads.
    pub const VERSION: u32 = 1;

    /// The largest encoded document that is read, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// An identity with neither roles nor traits.
    pub fn new(cluster: ClusterName, subject: Subject, issued_at: Timestamp) -> Self {
        Self {
            version: Self::VERSION,
            cluster,
            subject,
            roles: Vec::new(),
            traits: Traits::new(),
            logins: Vec::new(),
            issued_at,
            generation: 0,
            source_pin: None,
            mfa: None,
            route: None,
            access_requests: Vec::new(),
        }
    }

    /// The document's bytes, as certificates carry them.
    ///
    /// # Errors
    /// [`VerifyError::Document`] when it would be larger than [`Identity::MAX_BYTES`], so that
    /// nothing is issued that nobody would read.
    pub fn encode(&self) -> Result<Vec<u8>, VerifyError> {
        let bytes =
            serde_json::to_vec(self).map_err(|err| VerifyError::Document(err.to_string()))?;
        if bytes.len() > Self::MAX_BYTES {
            return Err(VerifyError::Document(format!(
                "{} bytes, more than {}: fewer roles or traits are needed",
                bytes.len(),
                Self::MAX_BYTES
            )));
        }
        Ok(bytes)
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`VerifyError::Document`] when it is too large, no such document, or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, VerifyError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(VerifyError::Document("too large".into()));
        }
        let identity: Self =
            serde_json::from_slice(bytes).map_err(|err| VerifyError::Document(err.to_string()))?;
        if identity.version != Self::VERSION {
            return Err(VerifyError::Document(format!(
                "version {} is not {}, the one that is understood here",
                identity.version,
                Self::VERSION
            )));
        }
        Ok(identity)
    }
}

/// What carried the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// An X.509 certificate, whose key the TLS handshake proved.
    Tls,
    /// An OpenSSH certificate, whose key the SSH handshake proved.
    Ssh,
}

/// An identity whose certificate was verified: chain, trust, type and time.
///
/// Its fields are private and it cannot be deserialized: it comes from [`TrustStore`] or not at
/// all. That the peer holds the certificate's key is what the handshake proves, which is why
/// the verifying functions ask for the certificates of a completed handshake.
///
/// ```compile_fail
/// // Forging one does not compile: the fields are private.
/// let forged = access_core::VerifiedIdentity { identity: todo!(), validity: todo!() };
/// ```
#[derive(Clone, Debug)]
pub struct VerifiedIdentity {
    identity: Identity,
    validity: Validity,
    proof: Proof,
    authority: AuthorityKind,
    chain: Arc<[CertificateDer<'static>]>,
}

impl VerifiedIdentity {
    /// The document.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When its certificate holds.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// What carried the proof.
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// The kind of authority that vouched for it.
    pub fn authority(&self) -> AuthorityKind {
        self.authority
    }

    /// The certificates that proved it in TLS, leaf first, as they were presented; empty when SSH
    /// did. Others who trust the same authorities can verify them again for themselves.
    pub fn certificate_chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The name for logs and events.
    pub fn name(&self) -> &str {
        self.identity.subject.name()
    }

    /// The host's id and services, when it is a host.
    pub fn host(&self) -> Option<(&HostId, &BTreeSet<Service>)> {
        match &self.identity.subject {
            Subject::Host { id, services, .. } => Some((id, services)),
            Subject::User { .. } | Subject::Bot { .. } => None,
        }
    }
}

#[cfg(test)]
impl VerifiedIdentity {
    /// One that nothing verified, for the tests of this crate.
    pub(crate) fn for_tests(identity: Identity, validity: Validity) -> Self {
        let authority = match identity.subject {
            Subject::User { .. } | Subject::Bot { .. } => AuthorityKind::User,
            Subject::Host { .. } => AuthorityKind::Host,
        };
        Self { identity, validity, proof: Proof::Tls, authority, chain: Arc::default() }
    }
}

/// Why a certificate does not make an identity.
///
/// The text is for the log and the audit event; strangers are told only that they were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// No certificate was presented.
    #[error("no certificate was presented")]
    Missing,
    /// It cannot be parsed.
    #[error("malformed certificate: {0}")]
    Malformed(String),
    /// None of the trusted authorities signed it.
    #[error("the certificate is not signed by an authority of this cluster")]
    Untrusted,
    /// Not yet, or no more.
    #[error("the certificate is {0}")]
    Time(#[from] crate::time::ValidityError),
    /// A host certificate where a user's is asked for, or the other way round.
    #[error("the certificate is of the wrong type: {0}")]
    WrongType(&'static str),
    /// It carries no identity document, or one that cannot be read.
    #[error("the certificate's identity document cannot be used: {0}")]
    Document(String),
    /// It belongs to another cluster.
    #[error("the certificate is of cluster {0}, not of this one")]
    OtherCluster(ClusterName),
    /// It demands something that is not understood here.
    #[error("unknown critical option {0:?} in the certificate")]
    CriticalOption(String),
    /// It may not be used from there.
    #[error("the certificate may not be used from {0}")]
    Source(String),
    /// It does not name the login.
    #[error("the certificate does not allow login {0:?}")]
    Principal(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::new(
            ClusterName::new("example.com").unwrap(),
            Subject::User { name: UserName::new("alice@example.com").unwrap() },
            Timestamp::from_secs(1),
        )
    }

    #[test]
    fn documents_survive_their_bytes() {
        let id = identity();
        assert_eq!(Identity::decode(&id.encode().unwrap()).unwrap(), id);
        assert_eq!(
            id.subject.spiffe_id(&id.cluster),
            "spiffe://example.com/user/alice%40example.com"
        );
    }

    #[test]
    fn a_document_with_an_unknown_field_or_version_is_refused() {
        let mut value = serde_json::to_value(identity()).unwrap();
        value["never_heard_of"] = true.into();
        assert!(Identity::decode(value.to_string().as_bytes()).is_err());
        let mut value = serde_json::to_value(identity()).unwrap();
        value["version"] = 2.into();
        assert!(Identity::decode(value.to_string().as_bytes()).is_err());
        assert!(Identity::decode(&vec![b' '; Identity::MAX_BYTES + 1]).is_err());
    }
}
