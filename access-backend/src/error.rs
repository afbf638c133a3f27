//! The one error of this crate.

use std::path::{Path, PathBuf};

use crate::Key;

/// What can go wrong with a store. Text names the file or key and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key is not there, or its row has expired.
    #[error("{key} does not exist")]
    NotFound {
        /// The key that was asked for.
        key: Key,
    },
    /// [`create`](crate::Backend::create) found a live row.
    #[error("{key} already exists; update it on its revision, or delete it first")]
    AlreadyExists {
        /// The key that is taken.
        key: Key,
    },
    /// The row has changed since the caller read it.
    #[error("{key} has changed since it was read; read it again and repeat the change")]
    RevisionMismatch {
        /// The key that has another revision now.
        key: Key,
    },
    /// A condition of a batch did not hold, so nothing of the batch was written.
    #[error(
        "condition {index} of the batch does not hold; read the keys again and repeat the change"
    )]
    ConditionFailed {
        /// Index into [`Batch::conditions`](crate::Batch) of the first condition that failed.
        index: usize,
    },
    /// Something is over its bound.
    #[error("{what} has {size} where {limit} is the limit; make it smaller or split it")]
    TooLarge {
        /// What was measured, with its unit.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// The caller passed something malformed.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// What was passed.
        what: &'static str,
        /// Why it was refused.
        reason: String,
    },
    /// Another process holds the file.
    #[error("{} is in use by another process; stop that one, or point this one at another data directory", path.display())]
    Busy {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The file system has no room; nothing of the operation was written.
    #[error("no space left to write {}; free some space or grow the file system, then repeat", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{} is damaged ({detail}); keep a copy of it and restore the last backup", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A later release of this software wrote the file.
    #[error("{} has schema version {found}, and this program knows up to {supported}; run the newer release again, or restore a backup from before the upgrade", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: i64,
        /// The highest version that this build can read.
        supported: i64,
    },
    /// The file is a sound database of some other program.
    #[error("{} belongs to another program ({detail}); name a file of its own for this store", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        detail: String,
    },
    /// The file or its directory can't be written.
    #[error("cannot write {} ({detail}); check its owner, its mode and that the file system is mounted read-write", path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's words.
        detail: String,
    },
    /// The file or its directory is open to every user of the machine.
    #[error("{} has mode {mode:04o} and is open to every user of this machine; run: chmod o-rwx {}", path.display(), path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The database can't be used as it is set up.
    #[error("{setting}: {reason}")]
    Setting {
        /// The setting to change, as it is called in the configuration: `storage.conn_string`.
        setting: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The store was copied elsewhere, and is no longer the one that counts.
    #[error(
        "this store was moved to {to}: point the configuration there. To go on with this one instead, and lose what was written there since: accessctl backend migrate --undo"
    )]
    Moved {
        /// The store that counts.
        to: String,
    },
    /// The store is being filled with the content of another one.
    #[error(
        "this store is half a copy of {from}: finish the migration with the command that began it, or use {from} and drop this one"
    )]
    HalfCopied {
        /// The store that counts.
        from: String,
    },
    /// The store was closed.
    #[error("the store is closed; open it again")]
    Closed,
    /// The engine failed in a way that may pass.
    #[error(
        "the store is unavailable ({detail}); try again, and look at the disk and the log if it stays so"
    )]
    Unavailable {
        /// What failed.
        detail: String,
    },
}

impl Error {
    /// Whether the operation was refused for what it asked, on a healthy store: such an operation wrote nothing
    /// and repeating it unchanged on unchanged data is refused again.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::AlreadyExists { .. }
                | Self::RevisionMismatch { .. }
                | Self::ConditionFailed { .. }
                | Self::TooLarge { .. }
                | Self::Invalid { .. }
        )
    }

    pub(crate) fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { what, reason: reason.into() }
    }

    pub(crate) fn corrupt(path: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), detail: detail.into() }
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::Unavailable { detail: detail.into() }
    }
}
