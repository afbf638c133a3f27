//! What is wanted of a certificate: for users, and for servers that are no members of the cluster.

use std::time::Duration;

use access_core::ClusterName;
use access_core::Timestamp;
use access_core::identity::{AuthorityKind, Identity, Subject};
use ssh_key::certificate::CertType;
use ssh_key::public::KeyData;

use super::names::SanName;
use super::policy::IssuingPolicy;
use super::ssh::VettedSsh;
use super::vetted::{Vetted, VettedParts};
use super::x509::{KeyUse, VettedTls};
use crate::error::{Error, Result};
use crate::subject_key::{check_ssh_key, check_tls_key};

/// What `sshd` lets the holder of an SSH certificate do. X11 forwarding is never among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SshPermissions {
    /// A terminal.
    pub pty: bool,
    /// Forwarded ports.
    pub port_forwarding: bool,
    /// A forwarded agent.
    pub agent_forwarding: bool,
}

impl Default for SshPermissions {
    /// A terminal and forwarded ports, but no agent: whoever is root on the target can use it.
    fn default() -> Self {
        Self { pty: true, port_forwarding: true, agent_forwarding: false }
    }
}

/// A certificate that a user or a bot should get: SSH, X.509, or both in one go.
#[derive(Clone, Debug)]
pub struct UserDraft {
    /// Whom it speaks for. Its `logins` become the SSH principals, its `source_pin` the critical
    /// option `source-address`; its `issued_at` is set when it is vetted.
    pub identity: Identity,
    /// The key of the SSH certificate; there is none without.
    pub ssh_public_key: Option<KeyData>,
    /// The key of the X.509 certificate as SubjectPublicKeyInfo in DER; there is none without.
    pub tls_public_key: Option<Vec<u8>>,
    /// How long it should hold.
    pub ttl: Duration,
    /// What it allows in SSH.
    pub ssh_permissions: SshPermissions,
    /// The identity's `issued_at` is this moment where it lies ahead of the policy's: what was
    /// voided up to a moment that has not come yet, because clocks differ, stays apart from this.
    pub issued_from: Option<Timestamp>,
}

impl UserDraft {
    /// A draft without keys: set at least one.
    pub fn new(identity: Identity, ttl: Duration) -> Self {
        Self {
            identity,
            ssh_public_key: None,
            tls_public_key: None,
            ttl,
            ssh_permissions: SshPermissions::default(),
            issued_from: None,
        }
    }

    /// Checks the draft and fixes everything that will stand in the certificates.
    ///
    /// # Errors
    /// Whatever is wrong with it: [`Error::NoKey`], [`Error::NoPrincipals`] for an SSH key without
    /// logins, [`Error::SshKey`], [`Error::TlsKey`], [`Error::WrongSubject`] for a host,
    /// [`Error::Policy`], [`Error::Identity`].
    pub fn vet(self, policy: &IssuingPolicy) -> Result<Vetted> {
        let Self {
            mut identity,
            ssh_public_key,
            tls_public_key,
            ttl,
            ssh_permissions,
            issued_from,
        } = self;
        if identity.subject.user().is_none() {
            return Err(Error::WrongSubject { wanted: "user" });
        }
        let parts = VettedParts::new(policy, ttl)?;
        identity.issued_at = issued_from.map_or(policy.now, |from| policy.now.max(from));
        let document = document(&identity)?;
        let name = identity.subject.name().to_owned();
        let ssh = match ssh_public_key {
            Some(key) => {
                check_ssh_key(&key)?;
                if identity.logins.is_empty() {
                    return Err(Error::NoPrincipals("login"));
                }
                Some(VettedSsh {
                    key,
                    cert_type: CertType::User,
                    key_id: name.clone(),
                    principals: identity
                        .logins
                        .iter()
                        .map(|login| login.as_str().to_owned())
                        .collect(),
                    source_pin: identity.source_pin.as_ref().map(ToString::to_string),
                    permissions: Some(ssh_permissions),
                })
            }
            None => None,
        };
        let tls = match tls_public_key {
            Some(spki) => {
                check_tls_key(&spki)?;
                Some(VettedTls {
                    spki,
                    common_name: name,
                    spiffe: Some(identity.subject.spiffe_id(&identity.cluster)),
                    names: Vec::new(),
                    key_use: KeyUse::Client,
                    key_encipherment: false,
                })
            }
            None => None,
        };
        let cluster = identity.cluster.clone();
        parts.vetted(AuthorityKind::User, cluster, Some((identity, document)), ssh, tls)
    }
}

/// A certificate for a server that clients of the cluster verify, but that is no member of it and
/// has no identity: the proxy's web pages. X.509 only, server use only.
#[derive(Clone, Debug)]
pub struct ServerDraft {
    /// The cluster whose host authority signs it.
    pub cluster: ClusterName,
    /// Names and addresses that clients reach it by; at least one.
    pub names: Vec<SanName>,
    /// Its key as SubjectPublicKeyInfo in DER.
    pub tls_public_key: Vec<u8>,
    /// How long it should hold.
    pub ttl: Duration,
}

impl ServerDraft {
    /// Checks the draft and fixes everything that will stand in the certificate.
    ///
    /// # Errors
    /// [`Error::NoNames`], [`Error::TlsKey`], [`Error::Policy`].
    pub fn vet(self, policy: &IssuingPolicy) -> Result<Vetted> {
        let Self { cluster, names, tls_public_key, ttl } = self;
        let parts = VettedParts::new(policy, ttl)?;
        check_tls_key(&tls_public_key)?;
        let common_name = names.first().ok_or(Error::NoNames)?.to_string();
        let tls = VettedTls {
            spki: tls_public_key,
            common_name,
            spiffe: None,
            names,
            key_use: KeyUse::Server,
            key_encipherment: false,
        };
        parts.vetted(AuthorityKind::Host, cluster, None, None, Some(tls))
    }
}

/// The identity's document, as text: SSH carries it as a string.
pub(super) fn document(identity: &Identity) -> Result<String> {
    if identity.version != Identity::VERSION {
        return Err(Error::Policy("the identity is of a version that is not written here"));
    }
    String::from_utf8(identity.encode()?)
        .map_err(|_| Error::Policy("the identity's document is no text"))
}

/// The host's id when the subject is one.
pub(super) fn host_id(identity: &Identity) -> Result<&access_core::HostId> {
    match &identity.subject {
        Subject::Host { id, .. } => Ok(id),
        Subject::User { .. } | Subject::Bot { .. } => Err(Error::WrongSubject { wanted: "host" }),
    }
}
