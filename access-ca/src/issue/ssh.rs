//! OpenSSH certificates (OpenSSH's PROTOCOL.certkeys).

use access_core::identity::SSH_IDENTITY_EXTENSION;
use ssh_key::Certificate;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::public::KeyData;

use super::draft::SshPermissions;
use super::vetted::VettedParts;
use crate::error::{Error, Result};
use crate::keys::{Signer, ssh_signature};

/// What is particular to an SSH certificate.
#[derive(Clone, Debug)]
pub(super) struct VettedSsh {
    pub(super) key: KeyData,
    pub(super) cert_type: CertType,
    pub(super) key_id: String,
    /// Never empty: an empty list would mean everybody.
    pub(super) principals: Vec<String>,
    pub(super) source_pin: Option<String>,
    /// Of users; hosts have none.
    pub(super) permissions: Option<SshPermissions>,
}

pub(super) fn sign(
    vetted: VettedSsh,
    document: String,
    parts: &VettedParts,
    signer: &dyn Signer,
) -> Result<Certificate> {
    build(vetted, document, parts)
        .and_then(|builder| builder.sign(&SshSigner(signer)))
        .map_err(|err| Error::Signing(err.to_string()))
}

fn build(
    vetted: VettedSsh,
    document: String,
    parts: &VettedParts,
) -> Result<Builder, ssh_key::Error> {
    let VettedSsh { key, cert_type, key_id, principals, source_pin, permissions } = vetted;
    let secs = |at: access_core::Timestamp| u64::try_from(at.as_secs()).unwrap_or(0);
    let mut builder = Builder::new(
        parts.ssh_nonce,
        key,
        secs(parts.validity.not_before()),
        secs(parts.validity.not_after()),
    )?;
    builder.serial(parts.ssh_serial)?.cert_type(cert_type)?.key_id(key_id)?;
    for principal in principals {
        builder.valid_principal(principal)?;
    }
    if let Some(pin) = source_pin {
        builder.critical_option("source-address", pin)?;
    }
    if let Some(SshPermissions { pty, port_forwarding, agent_forwarding }) = permissions {
        for (allowed, extension) in [
            (pty, "permit-pty"),
            (port_forwarding, "permit-port-forwarding"),
            (agent_forwarding, "permit-agent-forwarding"),
        ] {
            if allowed {
                builder.extension(extension, "")?;
            }
        }
    }
    builder.extension(SSH_IDENTITY_EXTENSION, document)?;
    Ok(builder)
}

/// A [`Signer`] as ssh-key wants it, so that ring signs and not ssh-key itself, whose P-256 is ten
/// times slower.
struct SshSigner<'a>(&'a dyn Signer);

impl From<&SshSigner<'_>> for KeyData {
    fn from(signer: &SshSigner<'_>) -> Self {
        signer.0.public_key().ssh().clone()
    }
}

impl signature::Signer<ssh_key::Signature> for SshSigner<'_> {
    fn try_sign(&self, message: &[u8]) -> Result<ssh_key::Signature, signature::Error> {
        self.0
            .sign(message)
            .and_then(|raw| ssh_signature(self.0.public_key().algorithm(), &raw))
            .map_err(signature::Error::from_source)
    }
}
