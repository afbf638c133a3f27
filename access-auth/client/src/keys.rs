//! Key pairs that are made where they are used, and never leave.

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::error::ClientError;
use crate::proto;

/// A P-256 key for TLS.
pub struct TlsKey {
    pkcs8: Zeroizing<Vec<u8>>,
    spki: Vec<u8>,
}

/// What precedes the point in the SubjectPublicKeyInfo of a P-256 key (RFC 5480, section 2).
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl TlsKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when the system has no randomness.
    pub fn generate() -> Result<Self, ClientError> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| ClientError::Malformed("the system gave no randomness".into()))?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads a key in PKCS#8.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when it is no P-256 key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, ClientError> {
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new())
                .map_err(|_| {
                    ClientError::Malformed("the TLS key is no P-256 key in PKCS#8".into())
                })?;
        let spki = [&P256_SPKI_PREFIX, key.public_key().as_ref()].concat();
        Ok(Self { pkcs8: Zeroizing::new(pkcs8.to_vec()), spki })
    }

    /// The public half, SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The private half in PKCS#8.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The private half in PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        crate::pem::encode("PRIVATE KEY", &self.pkcs8)
    }

    /// The private half for `rustls`.
    pub fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()).into()
    }
}

impl std::fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsKey(…)")
    }
}

/// The keys that a login, a join or a renewal asks certificates for: one for SSH, one for TLS.
#[derive(Debug)]
pub struct KeySet {
    /// Ed25519.
    pub ssh: PrivateKey,
    /// P-256.
    pub tls: TlsKey,
}

impl KeySet {
    /// Makes both.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when the system has no randomness.
    pub fn generate() -> Result<Self, ClientError> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(seed.as_mut())
            .map_err(|_| ClientError::Malformed("the system gave no randomness".into()))?;
        let ssh = PrivateKey::try_from(KeypairData::from(Ed25519Keypair::from_seed(&seed)))
            .map_err(|err| ClientError::Malformed(err.to_string()))?;
        Ok(Self { ssh, tls: TlsKey::generate()? })
    }

    /// The public halves, as the API takes them.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when the SSH key cannot be written.
    pub fn public(&self) -> Result<proto::PublicKeys, ClientError> {
        let ssh = self
            .ssh
            .public_key()
            .to_openssh()
            .map_err(|err| ClientError::Malformed(err.to_string()))?;
        Ok(proto::PublicKeys { ssh, tls: self.tls.spki().to_vec() })
    }

    /// The private SSH key in OpenSSH's format.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when it cannot be written.
    pub fn ssh_private_openssh(&self) -> Result<Zeroizing<String>, ClientError> {
        self.ssh.to_openssh(LineEnding::LF).map_err(|err| ClientError::Malformed(err.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_is_a_p256_subject_public_key_info() {
        use x509_parser::prelude::FromDer;
        let key = TlsKey::generate().unwrap();
        let (rest, spki) = x509_parser::x509::SubjectPublicKeyInfo::from_der(key.spki()).unwrap();
        assert!(rest.is_empty());
        assert!(matches!(
            spki.parsed().unwrap(),
            x509_parser::public_key::PublicKey::EC(point) if point.key_size() == 256
        ));
        assert_eq!(TlsKey::from_pkcs8(key.pkcs8()).unwrap().spki(), key.spki());
    }
}
