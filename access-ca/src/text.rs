//! The text forms in which public keys and certificates are handed out.

use data_encoding::BASE64;
use rustls_pki_types::CertificateDer;
use ssh_key::public::KeyData;

use crate::error::{Error, Result};

/// A certificate as PEM (RFC 7468, section 5), with a line feed at its end.
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = BASE64.encode(certificate);
    let mut text = String::with_capacity(encoded.len() + encoded.len() / 64 + 64);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while let Some((line, after)) = rest.split_at_checked(64.min(rest.len())) {
        if line.is_empty() {
            break;
        }
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// An SSH public key as one line without a comment: `ssh-ed25519 AAAA…`, as `authorized_keys`,
/// `known_hosts` and `TrustedUserCAKeys` hold it.
///
/// # Errors
/// [`Error::SshKey`] when it cannot be encoded.
pub fn openssh_line(key: &KeyData) -> Result<String> {
    ssh_key::PublicKey::from(key.clone())
        .to_openssh()
        .map(|line| line.trim_end().to_owned())
        .map_err(|err| Error::SshKey(err.to_string()))
}

/// Reads what [`openssh_line`] writes; a comment is allowed. Unlike
/// [`parse_ssh_key`](crate::parse_ssh_key) it does not ask whether the key would be certified.
///
/// # Errors
/// [`Error::SshKey`].
pub fn parse_openssh_line(line: &str) -> Result<KeyData> {
    ssh_key::PublicKey::from_openssh(line.trim())
        .map(|key| key.key_data().clone())
        .map_err(|err| Error::SshKey(err.to_string()))
}
