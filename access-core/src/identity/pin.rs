//! `ca_pin`: the cluster's key, known before the first connection.

use std::fmt;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The SHA-256 of a certificate's SubjectPublicKeyInfo, written `sha256:` and 64 hexadecimal
/// digits (the pin of RFC 7469, section 2.4, in hexadecimal).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpkiPin([u8; 32]);

/// A text that is no pin, or a certificate that cannot be pinned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The text has another form.
    #[error("{0:?} is no CA pin: it is written sha256: and 64 hexadecimal digits")]
    Form(String),
    /// The certificate cannot be parsed.
    #[error("malformed certificate")]
    Certificate,
}

impl SpkiPin {
    /// The pin of a SubjectPublicKeyInfo in DER.
    pub fn of_spki(spki_der: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, spki_der);
        let mut pin = [0; 32];
        pin.copy_from_slice(digest.as_ref());
        Self(pin)
    }

    /// The pin of a certificate's key.
    ///
    /// # Errors
    /// [`PinError::Certificate`] when it cannot be parsed.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, PinError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| PinError::Certificate)?;
        Ok(Self::of_spki(parsed.tbs_certificate.subject_pki.raw))
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<SpkiPin> for String {
    fn from(pin: SpkiPin) -> Self {
        pin.to_string()
    }
}

impl std::str::FromStr for SpkiPin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let form = || PinError::Form(text.chars().take(80).collect());
        let hex = text.trim().strip_prefix("sha256:").ok_or_else(form)?;
        let bytes =
            data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| form())?;
        Ok(Self(bytes.try_into().map_err(|_| form())?))
    }
}

impl TryFrom<String> for SpkiPin {
    type Error = PinError;

    fn try_from(text: String) -> Result<Self, PinError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_survive_their_text_and_nothing_else_is_one() {
        let pin = SpkiPin::of_spki(b"spki");
        assert_eq!(pin.to_string().parse::<SpkiPin>().unwrap(), pin);
        for text in ["", "sha256:", "sha256:00", "md5:00", &"0".repeat(64)] {
            assert!(text.parse::<SpkiPin>().is_err(), "{text}");
        }
    }
}
