//! Identity files: everything that a login leaves, in one file for `--identity`.
//!
//! Text: the SSH key in OpenSSH's format, the SSH certificate on a line of its own, the TLS key
//! and chain in PEM, and a last block with what the holder trusts, so that tools of other makers
//! find their part and ours need no second file.

use access_core::identity::TrustedAuthority;
use access_core::ids::{ClusterName, HostId};
use access_core::time::{Timestamp, Validity};
use data_encoding::BASE64;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use ssh_key::{Certificate, PrivateKey};
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::error::ClientError;
use crate::keys::{KeySet, TlsKey};
use crate::proto;

const SSH_KEY: &str = "OPENSSH PRIVATE KEY";
const TLS_KEY: &str = "PRIVATE KEY";
const CERTIFICATE: &str = "CERTIFICATE";
const TRUST: &str = "ACCESS TRUST";

/// The largest file that is read, in bytes.
const MAX_IDENTITY_FILE: usize = 1024 * 1024;

/// The last block.
#[derive(Serialize, Deserialize)]
struct Trust {
    cluster: ClusterName,
    not_before: Timestamp,
    not_after: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_id: Option<HostId>,
    authorities: Vec<Authority>,
}

#[derive(Serialize, Deserialize)]
struct Authority {
    kind: String,
    ssh: Vec<String>,
    tls: Vec<String>,
}

impl Credentials {
    /// The identity file's text. It holds private keys: write it with mode 0600.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when a part cannot be written.
    pub fn to_identity_file(&self) -> Result<Zeroizing<String>, ClientError> {
        let malformed = |err: ssh_key::Error| ClientError::Malformed(err.to_string());
        let mut file = self.keys.ssh_private_openssh()?;
        push_line(&mut file, &self.ssh_certificate.to_openssh().map_err(malformed)?);
        push_block(&mut file, TLS_KEY, self.keys.tls.pkcs8());
        for certificate in &self.tls_chain {
            push_block(&mut file, CERTIFICATE, certificate);
        }
        let authorities = self
            .authorities
            .iter()
            .map(|authority| {
                let authority = proto::Authority::try_from(authority)?;
                Ok(Authority {
                    kind: authority.kind,
                    ssh: authority.ssh_keys,
                    tls: authority.tls_roots.iter().map(|der| BASE64.encode(der)).collect(),
                })
            })
            .collect::<Result<_, ClientError>>()?;
        let trust = Trust {
            cluster: self.cluster.clone(),
            not_before: self.validity.not_before(),
            not_after: self.validity.not_after(),
            host_id: self.host_id.clone(),
            authorities,
        };
        let trust =
            serde_json::to_vec(&trust).map_err(|err| ClientError::Malformed(err.to_string()))?;
        push_block(&mut file, TRUST, &trust);
        Ok(file)
    }

    /// Reads an identity file's text.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] says which part is missing or unreadable.
    pub fn from_identity_file(text: &str) -> Result<Self, ClientError> {
        if text.len() > MAX_IDENTITY_FILE {
            return Err(malformed("is larger than any can be"));
        }
        let ssh = block_text(text, SSH_KEY).ok_or_else(|| malformed("has no SSH key"))?;
        let ssh = PrivateKey::from_openssh(ssh)
            .map_err(|err| malformed(&format!("has an SSH key that cannot be read: {err}")))?;
        let ssh_certificate = text
            .lines()
            .find(|line| line.contains("-cert-v01@openssh.com "))
            .ok_or_else(|| malformed("has no SSH certificate"))?;
        let ssh_certificate = Certificate::from_openssh(ssh_certificate).map_err(|err| {
            malformed(&format!("has an SSH certificate that cannot be read: {err}"))
        })?;
        let tls = blocks(text, TLS_KEY).next().ok_or_else(|| malformed("has no TLS key"))??;
        let tls = TlsKey::from_pkcs8(&tls)?;
        let tls_chain = blocks(text, CERTIFICATE)
            .map(|der| Ok(CertificateDer::from(der?.to_vec())))
            .collect::<Result<Vec<_>, ClientError>>()?;
        if tls_chain.is_empty() {
            return Err(malformed("has no TLS certificate"));
        }
        let trust = blocks(text, TRUST).next().ok_or_else(|| malformed("has no trust block"))??;
        let trust: Trust = serde_json::from_slice(&trust)
            .map_err(|err| malformed(&format!("has a trust block that cannot be read: {err}")))?;
        let validity = Validity::between(trust.not_before, trust.not_after)
            .map_err(|err| malformed(&err.to_string()))?;
        let authorities = trust
            .authorities
            .into_iter()
            .map(|authority| authority.into_trusted(&trust.cluster))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            keys: KeySet { ssh, tls },
            ssh_certificate,
            tls_chain,
            authorities,
            cluster: trust.cluster,
            validity,
            host_id: trust.host_id,
        })
    }
}

impl Authority {
    fn into_trusted(self, cluster: &ClusterName) -> Result<TrustedAuthority, ClientError> {
        let tls_roots = self
            .tls
            .iter()
            .map(|text| BASE64.decode(text.as_bytes()))
            .collect::<Result<_, _>>()
            .map_err(|err| malformed(&err.to_string()))?;
        TrustedAuthority::try_from(proto::Authority {
            kind: self.kind,
            cluster_name: cluster.to_string(),
            ssh_keys: self.ssh,
            tls_roots,
        })
    }
}

fn malformed(what: &str) -> ClientError {
    ClientError::Malformed(format!("the identity file {what}"))
}

fn push_line(file: &mut String, line: &str) {
    if !file.ends_with('\n') {
        file.push('\n');
    }
    file.push_str(line);
    file.push('\n');
}

fn push_block(file: &mut String, label: &str, der: &[u8]) {
    push_line(file, crate::pem::encode(label, der).trim_end());
}

/// The first block of a label, with its marks.
fn block_text<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let from = text.find(&begin)?;
    let rest = text.get(from..)?;
    let to = rest.find(&end)?;
    rest.get(..to + end.len())
}

/// The contents of every block of a label.
fn blocks<'a>(
    text: &'a str,
    label: &'a str,
) -> impl Iterator<Item = Result<Zeroizing<Vec<u8>>, ClientError>> + 'a {
    let mut rest = text;
    std::iter::from_fn(move || {
        let block = block_text(rest, label)?;
        let at = rest.find(block)?;
        rest = rest.get(at + block.len()..)?;
        let base64: Zeroizing<String> = Zeroizing::new(
            block.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect(),
        );
        Some(
            BASE64
                .decode(base64.as_bytes())
                .map(Zeroizing::new)
                .map_err(|err| malformed(&format!("has a {label} block that is broken: {err}"))),
        )
    })
}
