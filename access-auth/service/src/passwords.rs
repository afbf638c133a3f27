//! Passwords: what is taken as one, and Argon2id over it, a bounded number at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The shortest password, in characters.
pub(crate) const MIN_CHARACTERS: usize = 8;
/// The longest password, in bytes.
pub(crate) const MAX_BYTES: usize = 1024;

/// How many callers may wait for a free slot, for each slot there is.
const WAITING_PER_SLOT: usize = 64;

/// Hashes and verifies passwords.
pub(crate) struct Passwords {
    slots: Arc<Semaphore>,
    pending: AtomicUsize,
    most_pending: usize,
    /// Verified against when there is no such user, so that both take the same time.
    decoy: Arc<str>,
}

impl Passwords {
    /// At most `slots` hashes are computed at once, each in 19 MiB.
    pub(crate) fn new(slots: usize) -> Result<Self> {
        let slots = slots.max(1);
        let decoy = hash(&Zeroizing::new("nobody has this password".into()))?;
        Ok(Self {
            slots: Arc::new(Semaphore::new(slots)),
            pending: AtomicUsize::new(0),
            most_pending: slots * WAITING_PER_SLOT,
            decoy: decoy.into(),
        })
    }

    /// The text to store of a password.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String> {
        self.run(move || hash(&password)).await
    }

    /// Whether a password is the one that was stored. Takes as long when none was.
    pub(crate) async fn verify(
        &self,
        password: Zeroizing<String>,
        stored: Option<String>,
    ) -> Result<bool> {
        let known = stored.is_some();
        let against: Arc<str> = stored.map_or_else(|| Arc::clone(&self.decoy), Arc::from);
        let same = self.run(move || verify(&password, &against)).await?;
        Ok(same && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _pending = Pending::enter(&self.pending, self.most_pending)?;
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|_| Error::Internal("the service is closed".into()))?;
        tokio::task::spawn_blocking(move || {
            // Held by the work, not by the caller: one that goes away frees no slot early.
            let _slot = slot;
            work()
        })
        .await
        .map_err(|err| Error::Internal(format!("hashing a password failed: {err}")))?
    }
}

/// Counts those who wait or work.
struct Pending<'a>(&'a AtomicUsize);

impl<'a> Pending<'a> {
    fn enter(count: &'a AtomicUsize, most: usize) -> Result<Self> {
        if count.fetch_add(1, Ordering::Relaxed) >= most {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::Limited("too many logins at once".into()));
        }
        Ok(Self(count))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a text is taken as a new password.
pub(crate) fn check(password: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::Invalid(why));
    if password.len() > MAX_BYTES {
        refuse(format!("a password may have {MAX_BYTES} bytes at most"))
    } else if password.chars().count() < MIN_CHARACTERS {
        refuse(format!("a password must have {MIN_CHARACTERS} characters or more"))
    } else if password.contains(['\0', '\n', '\r']) {
        refuse("a password is one line of text".into())
    } else {
        Ok(())
    }
}

/// Argon2id with 19 MiB, two passes and one lane (the second choice of RFC 9106 for little
/// memory, as OWASP recommends it).
fn params() -> Result<Params> {
    Params::new(19 * 1024, 2, 1, None).map_err(failed)
}

fn hash(password: &Zeroizing<String>) -> Result<String> {
    let salt = crate::secrets::random::<16>()?;
    let params = params()?;
    let output = compute(password, &salt, Algorithm::Argon2id, Version::V0x13, params.clone())?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(failed)?,
        salt: Some(Salt::new(&salt).map_err(failed)?),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

fn verify(password: &Zeroizing<String>, stored: &str) -> Result<bool> {
    let unusable = |err: &dyn std::fmt::Display| Error::stored("password hash", err.to_string());
    let stored = PasswordHash::new(stored).map_err(|err| unusable(&err))?;
    let algorithm = Algorithm::try_from(stored.algorithm.as_str()).map_err(|err| unusable(&err))?;
    let version = stored.version.map_or(Ok(Version::V0x13), Version::try_from);
    let version = version.map_err(|err| unusable(&err))?;
    let params = Params::try_from(&stored).map_err(|err| unusable(&err))?;
    if params.block_count() > MAPPED_BLOCKS {
        return Err(unusable(&"it asks for more memory than any that is made here"));
    }
    let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else {
        return Err(unusable(&"it is not whole"));
    };
    // Outputs are compared in constant time.
    Ok(compute(password, salt.as_ref(), algorithm, version, params)? == expected)
}

/// 33 MiB in blocks of 1 KiB.
///
/// Memory for a hash is asked for in this size, of which only what is used is ever touched,
/// because the C library gives allocations of 32 MiB and more back to the system when they are
/// freed, and keeps smaller ones for each thread that made one: 19 MiB a thread, for ever.
const MAPPED_BLOCKS: usize = 33 * 1024;

fn compute(
    password: &Zeroizing<String>,
    salt: &[u8],
    algorithm: Algorithm,
    version: Version,
    params: Params,
) -> Result<Output> {
    let mut memory = Vec::with_capacity(MAPPED_BLOCKS);
    memory.resize(params.block_count(), Block::default());
    let mut bytes = Zeroizing::new([0; Params::DEFAULT_OUTPUT_LEN]);
    Argon2::new(algorithm, version, params)
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut *bytes, &mut memory)
        .map_err(failed)?;
    Output::new(&*bytes).map_err(failed)
}

fn failed(err: impl std::fmt::Display) -> Error {
    Error::Internal(format!("hashing a password failed: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(password: &str) -> Zeroizing<String> {
        Zeroizing::new(password.to_owned())
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let passwords = Passwords::new(2).unwrap();
        let stored = passwords.hash(text("correct horse")).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(passwords.verify(text("correct horse"), Some(stored.clone())).await.unwrap());
        assert!(!passwords.verify(text("battery staple"), Some(stored)).await.unwrap());
        assert!(!passwords.verify(text("nobody has this password"), None).await.unwrap());
    }

    #[test]
    fn short_long_and_odd_passwords_are_refused() {
        for bad in ["", "short", "1234567", "12345678\n", &"x".repeat(1025)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for good in ["12345678", "pässwörd", &"x".repeat(1024)] {
            check(good).unwrap();
        }
    }

    #[test]
    fn only_so_many_wait() {
        let count = AtomicUsize::new(0);
        let first = Pending::enter(&count, 1).unwrap();
        assert!(Pending::enter(&count, 1).is_err());
        drop(first);
        assert!(Pending::enter(&count, 1).is_ok());
    }
}
