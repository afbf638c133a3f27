//! Certificates of the cluster's own processes: agents, proxies, Auth.

use std::time::Duration;

use access_core::identity::{AuthorityKind, Identity, Service, Subject};
use access_core::resource::dns_label;
use access_core::{ResourceKind, ResourceName};
use ssh_key::certificate::CertType;
use ssh_key::public::KeyData;

use super::draft::{document, host_id};
use super::names::{SanName, check_host_principal};
use super::policy::IssuingPolicy;
use super::ssh::VettedSsh;
use super::vetted::{Vetted, VettedParts};
use super::x509::{KeyUse, VettedTls};
use crate::error::{Error, Result};
use crate::subject_key::{check_ssh_key, check_tls_key};

/// A certificate that a host should get. Its X.509 half serves as client and as server.
///
/// [`HostDraft::new`] derives every name that follows from the identity; whatever is added is the
/// caller's to justify, because whoever holds the certificate can answer for those names.
#[derive(Clone, Debug)]
pub struct HostDraft {
    /// Whom it speaks for; its `issued_at` is set when it is vetted.
    pub identity: Identity,
    /// Names and addresses of the X.509 certificate.
    pub names: Vec<SanName>,
    /// Principals of the SSH certificate.
    pub ssh_principals: Vec<String>,
    /// The key of the SSH certificate; there is none without.
    pub ssh_public_key: Option<KeyData>,
    /// The key of the X.509 certificate as SubjectPublicKeyInfo in DER; there is none without.
    pub tls_public_key: Option<Vec<u8>>,
    /// How long it should hold.
    pub ttl: Duration,
}

impl HostDraft {
    /// A draft with the names that follow from the identity, and without keys: set at least one.
    ///
    /// - every host: `ID.agent.CLUSTER`; principal `ID`
    /// - each resource: its DNS name, such as `web-1.node.CLUSTER`; for nodes the principals
    ///   `web-1` (when it can be one) and `web-1.node.CLUSTER`
    /// - a proxy: `proxy.CLUSTER`, also as a principal, because it is an SSH jump host
    /// - Auth: `auth.CLUSTER`
    ///
    /// # Errors
    /// [`Error::WrongSubject`] when the identity is no host's, [`Error::Name`] when a name is too
    /// long for DNS.
    pub fn new(identity: Identity, ttl: Duration) -> Result<Self> {
        let cluster = identity.cluster.clone();
        let Subject::Host { id, services, resources } = &identity.subject else {
            return Err(Error::WrongSubject { wanted: "host" });
        };
        let id_label = dns_label(&ResourceName::new(id)?);
        let mut names: Vec<SanName> = vec![format!("{id_label}.agent.{cluster}").parse()?];
        let mut ssh_principals = vec![id.as_str().to_owned()];
        for resource in resources {
            let dns = resource.dns_name(&cluster);
            names.push(dns.parse()?);
            if resource.kind == ResourceKind::Node {
                let bare = resource.name.as_str();
                if check_host_principal(bare).is_ok() {
                    ssh_principals.push(bare.to_owned());
                }
                ssh_principals.push(dns);
            }
        }
        if services.contains(&Service::Proxy) {
            let dns = format!("proxy.{cluster}");
            names.push(dns.parse()?);
            ssh_principals.push(dns);
        }
        if services.contains(&Service::Auth) {
            names.push(format!("auth.{cluster}").parse()?);
        }
        Ok(Self {
            identity,
            names,
            ssh_principals,
            ssh_public_key: None,
            tls_public_key: None,
            ttl,
        })
    }

    /// Adds a name under which the host is reached, such as a proxy's public address: to the X.509
    /// names and, unless it is a wildcard, to the SSH principals.
    pub fn add_name(&mut self, name: SanName) {
        let principal = name.to_string();
        if check_host_principal(&principal).is_ok() && !self.ssh_principals.contains(&principal) {
            self.ssh_principals.push(principal);
        }
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    /// Checks the draft and fixes everything that will stand in the certificates.
    ///
    /// # Errors
    /// Whatever is wrong with it: [`Error::NoKey`], [`Error::NoNames`], [`Error::NoPrincipals`],
    /// [`Error::Name`], [`Error::SshKey`], [`Error::TlsKey`], [`Error::WrongSubject`] for a user,
    /// [`Error::Policy`], [`Error::Identity`].
    pub fn vet(self, policy: &IssuingPolicy) -> Result<Vetted> {
        let Self { mut identity, names, ssh_principals, ssh_public_key, tls_public_key, ttl } =
            self;
        let name = host_id(&identity)?.as_str().to_owned();
        let parts = VettedParts::new(policy, ttl)?;
        identity.issued_at = policy.now;
        let document = document(&identity)?;
        let ssh = match ssh_public_key {
            Some(key) => {
                check_ssh_key(&key)?;
                if ssh_principals.is_empty() {
                    return Err(Error::NoPrincipals("host name"));
                }
                for principal in &ssh_principals {
                    check_host_principal(principal)?;
                }
                Some(VettedSsh {
                    key,
                    cert_type: CertType::Host,
                    key_id: name.clone(),
                    principals: ssh_principals,
                    source_pin: None,
                    permissions: None,
                })
            }
            None => None,
        };
        let tls = match tls_public_key {
            Some(spki) => {
                check_tls_key(&spki)?;
                if names.is_empty() {
                    return Err(Error::NoNames);
                }
                Some(VettedTls {
                    spki,
                    common_name: name,
                    spiffe: Some(identity.subject.spiffe_id(&identity.cluster)),
                    names,
                    key_use: KeyUse::Both,
                    key_encipherment: false,
                })
            }
            None => None,
        };
        let cluster = identity.cluster.clone();
        parts.vetted(AuthorityKind::Host, cluster, Some((identity, document)), ssh, tls)
    }
}
