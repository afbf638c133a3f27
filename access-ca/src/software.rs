//! Keys in memory, sealed at rest.

use std::fmt;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::keys::{
    KeyAlgorithm, KeyId, KeyPurpose, KeyStore, PrivateHalf, PublicKey, Signer, StoredKey,
};
use crate::random;
use crate::sealing::SealingKey;

/// A key store whose private keys are made by ring, used in memory, and stored sealed.
///
/// The bytes of a private key are wiped once ring has read them. Ring's own copy lives as long as
/// the [`Signer`] and is not wiped by ring when that is dropped; a token keeps keys out of memory
/// altogether.
#[derive(Clone, Debug)]
pub struct SoftwareKeyStore {
    sealing_key: SealingKey,
}

impl SoftwareKeyStore {
    /// A store whose keys are sealed by this key.
    pub fn new(sealing_key: SealingKey) -> Self {
        Self { sealing_key }
    }
}

impl KeyStore for SoftwareKeyStore {
    fn create(
        &self,
        algorithm: KeyAlgorithm,
        purpose: &KeyPurpose,
    ) -> Result<(StoredKey, Arc<dyn Signer>)> {
        let rng = SystemRandom::new();
        let document = match algorithm {
            KeyAlgorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8(&rng),
            KeyAlgorithm::EcdsaP256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng)
            }
        }
        .map_err(|_| Error::Randomness)?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        let signer = SoftwareSigner::from_pkcs8(algorithm, &pkcs8)?;
        let id = KeyId::from_random(random::bytes()?);
        let sealed = self.sealing_key.seal(&sealed_as(&id, purpose), &pkcs8)?;
        let stored = StoredKey {
            id,
            purpose: purpose.clone(),
            public_key: signer.public.clone(),
            private_key: PrivateHalf::Sealed(sealed),
        };
        Ok((stored, Arc::new(signer)))
    }

    fn open(&self, key: &StoredKey, purpose: &KeyPurpose) -> Result<Arc<dyn Signer>> {
        if key.purpose != *purpose {
            return Err(Error::Purpose { wanted: purpose.clone(), found: key.purpose.clone() });
        }
        let PrivateHalf::Sealed(sealed) = &key.private_key else {
            return Err(Error::Stored(format!("key {} is not kept in software", key.id)));
        };
        let pkcs8 = self.sealing_key.open(&sealed_as(&key.id, purpose), sealed)?;
        let signer = SoftwareSigner::from_pkcs8(key.public_key.algorithm(), &pkcs8)?;
        if signer.public != key.public_key {
            return Err(Error::Stored(format!("the halves of key {} do not match", key.id)));
        }
        Ok(Arc::new(signer))
    }
}

/// What is authenticated beside a sealed key: its purpose and its id.
fn sealed_as(id: &KeyId, purpose: &KeyPurpose) -> String {
    format!("key {purpose} {id}")
}

struct SoftwareSigner {
    public: PublicKey,
    private: Private,
}

enum Private {
    Ed25519(Ed25519KeyPair),
    EcdsaP256(EcdsaKeyPair, SystemRandom),
}

impl SoftwareSigner {
    fn from_pkcs8(algorithm: KeyAlgorithm, pkcs8: &[u8]) -> Result<Self> {
        let rejected = |err: ring::error::KeyRejected| {
            Error::Stored(format!("a private key cannot be used: {err}"))
        };
        let (raw, private) = match algorithm {
            KeyAlgorithm::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(rejected)?;
                (pair.public_key().as_ref().to_vec(), Private::Ed25519(pair))
            }
            KeyAlgorithm::EcdsaP256 => {
                let rng = SystemRandom::new();
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &rng)
                    .map_err(rejected)?;
                (pair.public_key().as_ref().to_vec(), Private::EcdsaP256(pair, rng))
            }
        };
        Ok(Self { public: PublicKey::from_raw(algorithm, &raw)?, private })
    }
}

impl Signer for SoftwareSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        match &self.private {
            Private::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Private::EcdsaP256(pair, rng) => {
                let signature = pair.sign(rng, message).map_err(|_| Error::Randomness)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

impl fmt::Debug for SoftwareSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwareSigner").field("public", &self.public).finish_non_exhaustive()
    }
}
