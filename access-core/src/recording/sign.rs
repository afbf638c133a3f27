//! Who recorded it: signatures of recorders.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, UnparsedPublicKey,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::error::RecordingError;

/// How a recorder signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// [Ed25519](https://www.rfc-editor.org/rfc/rfc8032); the key is 32 bytes.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ECDSA over P-256 with SHA-256, signatures in DER; the key is an uncompressed point.
    #[serde(rename = "ecdsa-p256-sha256")]
    EcdsaP256,
}

/// A recorder's public key.
///
/// ```
/// use access_core::recording::{KeyAlgorithm, RecorderKey};
/// let key = RecorderKey::new(KeyAlgorithm::Ed25519, [7; 32]);
/// assert!(key.to_string().starts_with("ed25519:0707"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RecorderKey {
    algorithm: KeyAlgorithm,
    bytes: Vec<u8>,
}

impl RecorderKey {
    /// A key from its raw bytes, in the form that [`KeyAlgorithm`] says.
    pub fn new(algorithm: KeyAlgorithm, bytes: impl Into<Vec<u8>>) -> Self {
        Self { algorithm, bytes: bytes.into() }
    }

    /// What it signs with.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Its raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.algorithm {
            KeyAlgorithm::Ed25519 => {
                UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature)
            }
            KeyAlgorithm::EcdsaP256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.bytes)
                .verify(message, signature),
        }
        .is_ok()
    }
}

impl fmt::Display for RecorderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.algorithm {
            KeyAlgorithm::Ed25519 => "ed25519",
            KeyAlgorithm::EcdsaP256 => "ecdsa-p256-sha256",
        };
        write!(f, "{algorithm}:{}", HEXLOWER.encode(&self.bytes))
    }
}

impl fmt::Debug for RecorderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Signs recordings.
///
/// ```
/// use access_core::recording::{RecorderKey, RecordingError, RecordingSigner, RingSigner};
/// // A signer that says what it signs.
/// #[derive(Debug)]
/// struct Loud(RingSigner);
/// impl RecordingSigner for Loud {
///     fn public_key(&self) -> RecorderKey {
///         self.0.public_key()
///     }
///     fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RecordingError> {
///         println!("signing {} bytes", message.len());
///         self.0.sign(message)
///     }
/// }
/// ```
pub trait RecordingSigner: Send + Sync + fmt::Debug {
    /// The key that verifies its signatures.
    fn public_key(&self) -> RecorderKey;

    /// The certificates for that key, its own first; written into the recording, so that who
    /// trusts an authority can trust the recorder.
    fn certificates(&self) -> Vec<CertificateDer<'static>> {
        Vec::new()
    }

    /// Signs a short message. Whether its key verifies that is not asked here, but by whoever reads
    /// the recording, and by Auth when it takes one in.
    ///
    /// # Errors
    /// [`RecordingError::Signature`].
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RecordingError>;
}

/// A software key that signs recordings.
///
/// ```
/// use access_core::recording::{RecordingSigner, RingSigner};
/// use ring::{rand::SystemRandom, signature::Ed25519KeyPair};
/// let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
/// let signer = RingSigner::from_pkcs8(pkcs8.as_ref(), Vec::new()).unwrap();
/// assert_eq!(signer.public_key().as_bytes().len(), 32);
/// ```
pub struct RingSigner {
    key: RingKey,
    certificates: Vec<CertificateDer<'static>>,
}

enum RingKey {
    Ed25519(Ed25519KeyPair),
    EcdsaP256(EcdsaKeyPair, SystemRandom),
}

impl RingSigner {
    /// A signer from a private key in PKCS#8 DER, Ed25519 or P-256, and its certificates.
    ///
    /// # Errors
    /// [`RecordingError::Signature`] when it is neither.
    pub fn from_pkcs8(
        pkcs8: &[u8],
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<Self, RecordingError> {
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
            return Ok(Self { key: RingKey::Ed25519(key), certificates });
        }
        let random = SystemRandom::new();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random)
            .map(|key| Self { key: RingKey::EcdsaP256(key, random), certificates })
            .map_err(|_| RecordingError::Signature("the key must be Ed25519 or P-256".into()))
    }
}

impl fmt::Debug for RingSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingSigner").field("key", &self.public_key()).finish_non_exhaustive()
    }
}

impl RecordingSigner for RingSigner {
    fn public_key(&self) -> RecorderKey {
        match &self.key {
            RingKey::Ed25519(key) => {
                RecorderKey::new(KeyAlgorithm::Ed25519, key.public_key().as_ref())
            }
            RingKey::EcdsaP256(key, _) => {
                RecorderKey::new(KeyAlgorithm::EcdsaP256, key.public_key().as_ref())
            }
        }
    }

    fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.certificates.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RecordingError> {
        match &self.key {
            RingKey::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            RingKey::EcdsaP256(key, random) => key
                .sign(random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| RecordingError::Signature("no randomness".into())),
        }
    }
}

/// Says whose signature counts: a key, some keys, or a function that looks at the certificates.
///
/// ```
/// use access_core::recording::{KeyAlgorithm, RecorderKey, RecorderTrust};
/// let key = RecorderKey::new(KeyAlgorithm::Ed25519, [7; 32]);
/// let other = RecorderKey::new(KeyAlgorithm::Ed25519, [8; 32]);
/// assert!(key.trusts(&key, &[]) && !key.trusts(&other, &[]));
/// assert!(vec![key, other.clone()].trusts(&other, &[]));
/// ```
pub trait RecorderTrust: Send {
    /// Whether a valid signature by this key, which came with these certificates, counts. The
    /// certificates are what the file says: an implementation verifies them, and that the key is
    /// the first one's.
    fn trusts(&self, key: &RecorderKey, certificates: &[CertificateDer<'static>]) -> bool;
}

impl RecorderTrust for RecorderKey {
    fn trusts(&self, key: &RecorderKey, _: &[CertificateDer<'static>]) -> bool {
        self == key
    }
}

impl RecorderTrust for Vec<RecorderKey> {
    fn trusts(&self, key: &RecorderKey, _: &[CertificateDer<'static>]) -> bool {
        self.contains(key)
    }
}

impl<F> RecorderTrust for F
where
    F: Fn(&RecorderKey, &[CertificateDer<'static>]) -> bool + Send,
{
    fn trusts(&self, key: &RecorderKey, certificates: &[CertificateDer<'static>]) -> bool {
        self(key, certificates)
    }
}

/// The body of a signature frame.
#[derive(Serialize, Deserialize)]
pub(super) struct Sealed {
    algorithm: KeyAlgorithm,
    public_key: String,
    signature: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<String>,
}

impl Sealed {
    pub(super) fn make(
        signer: &dyn RecordingSigner,
        message: &[u8],
    ) -> Result<Self, RecordingError> {
        let key = signer.public_key();
        let signature = signer.sign(message)?;
        let certificates = signer.certificates();
        Ok(Self {
            algorithm: key.algorithm,
            public_key: BASE64.encode(&key.bytes),
            signature: BASE64.encode(&signature),
            certificates: certificates.iter().map(|cert| BASE64.encode(cert)).collect(),
        })
    }

    /// The key whose valid signature this is, and the certificates that came with it.
    pub(super) fn verify(
        &self,
        message: &[u8],
    ) -> Option<(RecorderKey, Vec<CertificateDer<'static>>)> {
        let decode = |text: &String| BASE64.decode(text.as_bytes()).ok();
        let key = RecorderKey::new(self.algorithm, decode(&self.public_key)?);
        let certificates: Option<Vec<_>> =
            self.certificates.iter().map(|cert| decode(cert).map(CertificateDer::from)).collect();
        if key.verifies(message, &decode(&self.signature)?) {
            Some((key, certificates?))
        } else {
            None
        }
    }
}
