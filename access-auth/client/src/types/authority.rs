//! Certificate authorities: their public halves.

use access_core::ClusterName;
use access_core::document::{Document, DocumentSpec};
use access_core::identity::{AuthorityKind, SpkiPin, TrustedAuthority};
use access_core::policy::ApiKind;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use ssh_key::public::KeyData;

use super::is_default;
use crate::error::ClientError;
use crate::pem::certificate_pem;
use crate::proto;

/// An authority as printed: what others trust of it. It is named after its kind.
pub type AuthorityDocument = Document<AuthoritySpec>;

/// The public halves of an authority: every key that is trusted at the moment, the signing ones
/// first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthoritySpec {
    /// What it signs for.
    pub kind: AuthorityKind,
    /// Whose it is.
    pub cluster: ClusterName,
    /// Keys that sign SSH certificates, in OpenSSH's one-line format.
    pub ssh_keys: Vec<String>,
    /// Self-signed roots that sign X.509 certificates, in PEM.
    pub tls_roots: Vec<String>,
    /// The pins of the roots.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ca_pins: Vec<SpkiPin>,
}

impl DocumentSpec for AuthoritySpec {
    const KIND: ApiKind = ApiKind::Authority;
}

/// How many keys of one sort an authority may have: the signing one, and those of a rotation.
const MAX_KEYS: usize = 16;

impl TryFrom<&TrustedAuthority> for AuthoritySpec {
    type Error = ClientError;

    fn try_from(authority: &TrustedAuthority) -> Result<Self, ClientError> {
        let TrustedAuthority { kind, cluster, ssh, tls } = authority;
        Ok(Self {
            kind: *kind,
            cluster: cluster.clone(),
            ssh_keys: ssh.iter().map(write_ssh_key).collect::<Result<_, _>>()?,
            tls_roots: tls.iter().map(certificate_pem).collect(),
            ca_pins: authority.pins()?,
        })
    }
}

impl TryFrom<&AuthoritySpec> for TrustedAuthority {
    type Error = ClientError;

    fn try_from(spec: &AuthoritySpec) -> Result<Self, ClientError> {
        let AuthoritySpec { kind, cluster, ssh_keys, tls_roots, ca_pins: _ } = spec;
        bound(ssh_keys.len().max(tls_roots.len()))?;
        let tls = tls_roots
            .iter()
            .map(|root| {
                CertificateDer::from_pem_slice(root.as_bytes())
                    .map_err(|err| malformed(format_args!("has a root that is no PEM: {err}")))
            })
            .collect::<Result<_, _>>()?;
        let ssh = ssh_keys.iter().map(|key| read_ssh_key(key)).collect::<Result<_, _>>()?;
        Ok(Self { kind: *kind, cluster: cluster.clone(), ssh, tls })
    }
}

impl TryFrom<&TrustedAuthority> for proto::Authority {
    type Error = ClientError;

    fn try_from(authority: &TrustedAuthority) -> Result<Self, ClientError> {
        let TrustedAuthority { kind, cluster, ssh, tls } = authority;
        Ok(Self {
            kind: kind.as_str().to_owned(),
            cluster_name: cluster.as_str().to_owned(),
            ssh_keys: ssh.iter().map(write_ssh_key).collect::<Result<_, _>>()?,
            tls_roots: tls.iter().map(|root| root.to_vec()).collect(),
        })
    }
}

impl TryFrom<proto::Authority> for TrustedAuthority {
    type Error = ClientError;

    fn try_from(authority: proto::Authority) -> Result<Self, ClientError> {
        let proto::Authority { kind, cluster_name, ssh_keys, tls_roots } = authority;
        bound(ssh_keys.len().max(tls_roots.len()))?;
        let kind = AuthorityKind::ALL
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or_else(|| malformed("is of a kind that is not known here"))?;
        let cluster = ClusterName::new(&cluster_name).map_err(malformed)?;
        let ssh = ssh_keys.iter().map(|key| read_ssh_key(key)).collect::<Result<_, _>>()?;
        let tls = tls_roots.into_iter().map(CertificateDer::from).collect();
        Ok(Self { kind, cluster, ssh, tls })
    }
}

fn malformed(why: impl std::fmt::Display) -> ClientError {
    ClientError::Malformed(format!("an authority {why}"))
}

fn bound(keys: usize) -> Result<(), ClientError> {
    if keys <= MAX_KEYS { Ok(()) } else { Err(malformed("has too many keys")) }
}

fn write_ssh_key(key: &KeyData) -> Result<String, ClientError> {
    ssh_key::PublicKey::from(key.clone())
        .to_openssh()
        .map(|line| line.trim_end().to_owned())
        .map_err(|err| malformed(format_args!("has an SSH key that cannot be written: {err}")))
}

fn read_ssh_key(line: &str) -> Result<KeyData, ClientError> {
    ssh_key::PublicKey::from_openssh(line.trim())
        .map(|key| key.key_data().clone())
        .map_err(|err| malformed(format_args!("has an SSH key that cannot be read: {err}")))
}
