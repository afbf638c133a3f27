//! Secrets at rest: sealed by one key that is kept apart from them.
//!
//! A sealed secret is `version (1) ‖ key fingerprint (8) ‖ nonce (12) ‖ AES-256-GCM ciphertext and
//! tag`, in base64. What it is for is authenticated with it, so that one sealed secret cannot be
//! put in the place of another. The fingerprint tells a wrong key from a damaged secret.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::random;

/// The form that is written, and the only one that is read.
const VERSION: u8 = 1;
const FINGERPRINT: usize = 8;

/// The longest key file that is read, in bytes.
const MAX_FILE: u64 = 1024;

/// The key that seals all others: 32 random bytes, from a file or from the environment.
///
/// Wiped from memory when dropped, and never shown by `Debug`.
#[derive(Clone)]
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl SealingKey {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn generate() -> Result<Self> {
        Ok(Self(Zeroizing::new(random::bytes()?)))
    }

    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A key from its text, base64 or hexadecimal, as it stands in an environment variable.
    ///
    /// # Errors
    /// [`Error::SealingKey`] says what is wrong with the text, without showing it.
    pub fn from_text(text: &str) -> Result<Self> {
        let text = text.trim();
        let decoded = match text.len() {
            0 => return Err(Error::SealingKey("it is empty")),
            64 => HEXLOWER_PERMISSIVE.decode(text.as_bytes()),
            _ => BASE64.decode(text.as_bytes()),
        };
        let decoded = Zeroizing::new(
            decoded.map_err(|_| Error::SealingKey("it is neither base64 nor hexadecimal"))?,
        );
        let bytes: [u8; 32] = decoded
            .as_slice()
            .try_into()
            .map_err(|_| Error::SealingKey("it does not have 32 bytes"))?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(Error::SealingKey("all of its bytes are zero"));
        }
        Ok(Self::from_bytes(bytes))
    }

    /// A key from a file that holds its text and that only its owner can read.
    ///
    /// # Errors
    /// [`Error::SealingKeyFile`] when it cannot be read, can be read by others, or holds no key.
    pub fn read_file(path: &Path) -> Result<Self> {
        let wrong = |why: String| Error::SealingKeyFile { path: path.to_owned(), why };
        let file = fs::File::open(path).map_err(|err| wrong(err.to_string()))?;
        // Of the open file, so that no other can take its place after the check.
        let metadata = file.metadata().map_err(|err| wrong(err.to_string()))?;
        if !metadata.is_file() {
            return Err(wrong("not a regular file".into()));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(wrong(format!(
                "others can reach it (mode {mode:04o}): run `chmod 600` on it, and make a new key \
                 if it may have been read"
            )));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE).read_to_string(&mut text).map_err(|err| wrong(err.to_string()))?;
        Self::from_text(&text).map_err(|err| wrong(err.to_string()))
    }

    /// Writes the key into a new file that only its owner can read. The file appears whole or not
    /// at all, and one that exists is left alone.
    ///
    /// # Errors
    /// [`Error::SealingKeyFile`] when it exists or cannot be written.
    pub fn create_file(&self, path: &Path) -> Result<()> {
        let wrong = |err: std::io::Error| Error::SealingKeyFile {
            path: path.to_owned(),
            why: err.to_string(),
        };
        let suffix = HEXLOWER_PERMISSIVE.encode(&random::bytes::<8>()?);
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{suffix}.new"));
        let draft = Path::new(&draft);
        let written = write_private(draft, &self.to_text())
            // Linking, unlike renaming, never replaces what is there.
            .and_then(|()| fs::hard_link(draft, path))
            .and_then(|()| sync_parent(path));
        let removed = fs::remove_file(draft);
        written.map_err(wrong)?;
        removed.map_err(wrong)
    }

    /// Seals a secret. `purpose` says what it is: the same text opens it again, no other does.
    ///
    /// # Errors
    /// [`Error::Randomness`], or [`Error::Signing`] when the secret is far too long.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Sealed> {
        let nonce: [u8; NONCE_LEN] = random::bytes()?;
        let mut sealed = Vec::with_capacity(1 + FINGERPRINT + NONCE_LEN + secret.len() + 16);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.fingerprint());
        sealed.extend_from_slice(&nonce);
        let mut content = Zeroizing::new(secret.to_vec());
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated(purpose)),
                &mut content,
            )
            .map_err(|_| Error::Signing("the secret is too long to be sealed".into()))?;
        sealed.extend_from_slice(&content);
        sealed.extend_from_slice(tag.as_ref());
        Ok(Sealed(BASE64.encode(&sealed)))
    }

    /// Opens what was sealed for a purpose.
    ///
    /// # Errors
    /// [`Error::OtherSealingKey`], [`Error::SealedVersion`], or [`Error::Sealed`] when it was
    /// changed, truncated, or sealed for another purpose.
    pub fn open(&self, purpose: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>> {
        let what = || purpose.to_owned();
        let damaged = || Error::Sealed { what: what() };
        let bytes = BASE64.decode(sealed.0.as_bytes()).map_err(|_| damaged())?;
        let (version, rest) = bytes.split_first().ok_or_else(damaged)?;
        if *version != VERSION {
            return Err(Error::SealedVersion { what: what(), version: *version });
        }
        let (fingerprint, rest) = rest.split_first_chunk::<FINGERPRINT>().ok_or_else(damaged)?;
        if *fingerprint != self.fingerprint() {
            return Err(Error::OtherSealingKey { what: what() });
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let mut content = Zeroizing::new(rest.to_vec());
        let length = self
            .cipher()?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(associated(purpose)),
                &mut content,
            )
            .map_err(|_| damaged())?
            .len();
        content.truncate(length);
        Ok(content)
    }

    fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0.as_slice()))
    }

    fn cipher(&self) -> Result<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, self.0.as_slice())
            .map(LessSafeKey::new)
            .map_err(|_| Error::SealingKey("it does not have 32 bytes"))
    }

    /// Tells keys apart and nothing about them.
    fn fingerprint(&self) -> [u8; FINGERPRINT] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        let tag = hmac::sign(&key, b"access sealing key fingerprint v1");
        let mut fingerprint = [0; FINGERPRINT];
        fingerprint.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        fingerprint
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

/// A secret that only the [`SealingKey`] that sealed it opens; safe to store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// The text that is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} characters)", self.0.len())
    }
}

fn associated(purpose: &str) -> Vec<u8> {
    [b"access sealed v1\0", purpose.as_bytes()].concat()
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => fs::File::open(".")?.sync_all(),
    }
}
