//! The file with the key that seals the cluster's authorities.
//!
//! Replicas share it by a file that all of them reach, or each has a copy. It is made before the
//! cluster, because a cluster whose key was lost is lost; whoever made one and was not the one who
//! made the cluster removes it again.

use std::path::PathBuf;

use access_ca::SealingKey;

use crate::error::{Error, Result};
use crate::options::Options;

/// The environment variable that names the sealing key's file.
pub const SEAL_KEY_ENV: &str = "ACCESS_SEAL_KEY_FILE";

/// Its name within the data directory.
const NAME: &str = "seal.key";

/// Where the key is.
#[derive(Debug)]
pub(crate) struct SealFile {
    path: PathBuf,
}

impl SealFile {
    /// Where it is by the options, by the environment, or in the data directory.
    pub(crate) fn of(options: &Options) -> Self {
        let named = std::env::var_os(SEAL_KEY_ENV).filter(|value| !value.is_empty());
        let given = options.seal_key_file.clone().or_else(|| named.map(PathBuf::from));
        Self { path: given.unwrap_or_else(|| options.data_dir.join(NAME)) }
    }

    /// The key of a cluster that is there.
    pub(crate) fn read(&self) -> Result<SealingKey> {
        if self.is_absent() {
            return Err(self.wrong("the key that seals the cluster's authorities is missing"));
        }
        Ok(SealingKey::read_file(&self.path)?)
    }

    /// The key for a cluster that is to be made, and whether it was made now and here: of several
    /// processes that make one file at once, one does.
    pub(crate) fn read_or_make(&self) -> Result<(SealingKey, bool)> {
        if self.is_absent() {
            let key = SealingKey::generate()?;
            match key.create_file(&self.path) {
                Ok(()) => return Ok((key, true)),
                // Somebody else made it at the same moment: theirs counts.
                Err(_) if self.path.exists() => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok((SealingKey::read_file(&self.path)?, false))
    }

    /// Removes the key, which has sealed nothing.
    pub(crate) fn remove(&self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|err| {
            Error::file(
                &self.path,
                format!(
                    "cannot be removed ({err}), and is of no use: another process made the cluster"
                ),
            )
        })
    }

    /// Says of an error about the key where the right one is.
    pub(crate) fn explain(&self, err: Error) -> Error {
        if !is_other_seal(&err) {
            return err;
        }
        if self.is_absent() {
            self.wrong("another process made the cluster at the same moment, with a sealing key of its own")
        } else {
            self.wrong("the cluster's authorities are sealed by another sealing key than this one")
        }
    }

    fn wrong(&self, what: &str) -> Error {
        Error::file(
            &self.path,
            format!(
                "{what}: copy the file here that another Auth process of the cluster uses \
                 ({NAME} in its data_dir, or what its {SEAL_KEY_ENV} names), or name one file for \
                 all of them by {SEAL_KEY_ENV}"
            ),
        )
    }

    fn is_absent(&self) -> bool {
        let metadata = std::fs::metadata(&self.path);
        matches!(metadata, Err(err) if err.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Whether what is stored was sealed by another key.
pub(crate) fn is_other_seal(err: &Error) -> bool {
    matches!(err, Error::Authority(access_ca::Error::OtherSealingKey { .. }))
}
