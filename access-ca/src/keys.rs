//! Keys as the rest of the crate sees them: traits that software and hardware implement alike.

use std::fmt;
use std::sync::Arc;

use access_core::ClusterName;
use access_core::identity::AuthorityKind;
use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ssh_key::public::{EcdsaPublicKey, Ed25519PublicKey, KeyData};

use crate::der::{Writer, tag};
use crate::error::{Error, Result, shown};

/// The algorithms that authorities sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA on P-256 with SHA-256 (FIPS 186-5).
    EcdsaP256,
}

/// What a key is for, such as `authority/user/ssh/example.com`.
///
/// It is sealed with the key: a key stored for one purpose is never opened for another.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyPurpose(String);

impl KeyPurpose {
    /// A purpose of the embedding program's own.
    pub fn new(purpose: impl Into<String>) -> Self {
        Self(purpose.into())
    }

    /// The purpose of the key that signs SSH certificates of an authority.
    pub fn authority_ssh(kind: AuthorityKind, cluster: &ClusterName) -> Self {
        Self(format!("authority/{kind}/ssh/{cluster}"))
    }

    /// The purpose of the key that signs X.509 certificates of an authority.
    pub fn authority_tls(kind: AuthorityKind, cluster: &ClusterName) -> Self {
        Self(format!("authority/{kind}/tls/{cluster}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of one key in its store: random, never used again.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// An id from 16 random bytes, which the key store draws.
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(access_core::ids::uuid_text(random))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The public half of a signing key, in every form that certificates need. Stored as the base64 of
/// its SubjectPublicKeyInfo.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    raw: Vec<u8>,
    spki: Vec<u8>,
    ssh: KeyData,
}

/// DER of everything before the key's own bytes in a SubjectPublicKeyInfo (RFC 8410, RFC 5480).
pub(crate) const SPKI_ED25519: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
pub(crate) const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl PublicKey {
    /// A public key from its own bytes: 32 of Ed25519 (RFC 8032), 65 of an uncompressed point of
    /// P-256 (SEC 1, section 2.3.3).
    ///
    /// # Errors
    /// [`Error::Stored`] when the bytes are of another form.
    pub fn from_raw(algorithm: KeyAlgorithm, raw: &[u8]) -> Result<Self> {
        let malformed = || Error::Stored(format!("malformed {algorithm:?} public key"));
        let (prefix, ssh) = match algorithm {
            KeyAlgorithm::Ed25519 => {
                let bytes: [u8; 32] = raw.try_into().map_err(|_| malformed())?;
                (SPKI_ED25519.as_slice(), KeyData::Ed25519(Ed25519PublicKey(bytes)))
            }
            KeyAlgorithm::EcdsaP256 => {
                if raw.len() != 65 || raw.first() != Some(&4) {
                    return Err(malformed());
                }
                let key = EcdsaPublicKey::from_sec1_bytes(raw).map_err(|_| malformed())?;
                (SPKI_P256.as_slice(), KeyData::Ecdsa(key))
            }
        };
        Ok(Self { algorithm, raw: raw.to_vec(), spki: [prefix, raw].concat(), ssh })
    }

    /// A public key from its SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`Error::Stored`] when it is of no [`KeyAlgorithm`].
    pub fn from_spki(spki: &[u8]) -> Result<Self> {
        if let Some(raw) = spki.strip_prefix(&SPKI_ED25519) {
            Self::from_raw(KeyAlgorithm::Ed25519, raw)
        } else if let Some(raw) = spki.strip_prefix(&SPKI_P256) {
            Self::from_raw(KeyAlgorithm::EcdsaP256, raw)
        } else {
            Err(Error::Stored("a public key is neither Ed25519 nor ECDSA P-256".into()))
        }
    }

    /// What the key signs with.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The key's own bytes, as [`PublicKey::from_raw`] takes them.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7).
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The key as SSH knows it.
    pub fn ssh(&self) -> &KeyData {
        &self.ssh
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?}, {})", self.algorithm, BASE64.encode(&self.raw))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.spki))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let spki = BASE64.decode(text.as_bytes()).map_err(de::Error::custom)?;
        Self::from_spki(&spki).map_err(de::Error::custom)
    }
}

/// A key that signs, wherever it lives.
///
/// Signing may block for as long as the key's hardware takes.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs a message (not a digest of it) and returns 64 bytes.
    ///
    /// Ed25519: `R ‖ S` (RFC 8032, section 5.1.6). P-256: `r ‖ s`, 32 bytes big-endian each, over
    /// the message's SHA-256 (the form of IEEE P1363, and of PKCS#11's `CKM_ECDSA`).
    ///
    /// # Errors
    /// [`Error::Signing`].
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>>;
}

/// What is stored of a key: enough for its store to open it again, and nothing secret in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredKey {
    /// Its name in the store.
    pub id: KeyId,
    /// What it is for.
    pub purpose: KeyPurpose,
    /// Its public half.
    pub public_key: PublicKey,
    /// Where its private half is.
    pub private_key: PrivateHalf,
}

/// Where a private key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum PrivateHalf {
    /// Here, sealed: PKCS#8 (RFC 5958).
    Sealed(crate::Sealed),
    /// In a token that finds it by the key's id.
    Token {
        /// Which token, in the words of its key store.
        token: String,
    },
}

/// Makes keys and opens them again.
pub trait KeyStore: Send + Sync {
    /// Makes a key and says what to store of it. Randomness comes from the store.
    ///
    /// # Errors
    /// [`Error::Randomness`], [`Error::Algorithm`], or what the store meets.
    fn create(
        &self,
        algorithm: KeyAlgorithm,
        purpose: &KeyPurpose,
    ) -> Result<(StoredKey, Arc<dyn Signer>)>;

    /// Opens a key that was made for `purpose`.
    ///
    /// # Errors
    /// [`Error::Purpose`] when it was made for another, [`Error::Stored`] when its halves do not
    /// belong together, and the sealing errors.
    fn open(&self, key: &StoredKey, purpose: &KeyPurpose) -> Result<Arc<dyn Signer>>;
}

/// A raw signature as SSH writes it (RFC 5656, section 3.1.2; RFC 8709, section 6).
pub(crate) fn ssh_signature(algorithm: KeyAlgorithm, raw: &[u8]) -> Result<ssh_key::Signature> {
    let (algorithm, data) = match algorithm {
        KeyAlgorithm::Ed25519 => (ssh_key::Algorithm::Ed25519, raw.to_vec()),
        KeyAlgorithm::EcdsaP256 => {
            let (r, s) = ecdsa_halves(raw)?;
            let mut data = Vec::with_capacity(2 * (4 + 33));
            push_mpint(&mut data, r);
            push_mpint(&mut data, s);
            (ssh_key::Algorithm::Ecdsa { curve: ssh_key::EcdsaCurve::NistP256 }, data)
        }
    };
    ssh_key::Signature::new(algorithm, data).map_err(|err| Error::Signing(err.to_string()))
}

/// A raw signature as X.509 writes it (RFC 5480, appendix A; RFC 8410, section 6).
pub(crate) fn x509_signature(algorithm: KeyAlgorithm, raw: Vec<u8>) -> Result<Vec<u8>> {
    match algorithm {
        KeyAlgorithm::Ed25519 => Ok(raw),
        KeyAlgorithm::EcdsaP256 => {
            let (r, s) = ecdsa_halves(&raw)?;
            let mut writer = Writer::with_capacity(72);
            writer.nested(tag::SEQUENCE, |w| {
                w.positive_integer(r);
                w.positive_integer(s);
            });
            Ok(writer.into_bytes())
        }
    }
}

fn ecdsa_halves(raw: &[u8]) -> Result<(&[u8], &[u8])> {
    match raw.split_at_checked(32) {
        Some((r, s)) if s.len() == 32 => Ok((r, s)),
        _ => Err(Error::Signing(shown("the key returned a signature of another length"))),
    }
}

/// An SSH `mpint` (RFC 4251, section 5).
fn push_mpint(out: &mut Vec<u8>, mut bytes: &[u8]) {
    while let [0, rest @ ..] = bytes {
        bytes = rest;
    }
    let padded = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let length = u32::try_from(bytes.len()).unwrap_or(0) + u32::from(padded);
    out.extend_from_slice(&length.to_be_bytes());
    if padded {
        out.push(0);
    }
    out.extend_from_slice(bytes);
}
