//! The data directory: made for its owner alone, and refused when others can read it.

use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What is wrong with a data directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// It cannot be made or written.
    #[error("cannot use the data directory {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something else has its name.
    #[error("the data directory {} is no directory", .0.display())]
    NotADirectory(PathBuf),
    /// Others than its owner can enter it; it holds keys.
    #[error(
        "the data directory {} is open to others (mode {mode:03o}): run chmod 700 on it",
        path.display()
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("the data directory {} belongs to user id {owner}, not to {me}", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs.
        me: u32,
    },
}

/// Makes sure that a data directory is there, for its owner alone, and can be written. From then
/// on every file that this process makes is for its owner alone: what libraries write as well, and
/// in case that somebody opens or copies the directory.
///
/// # Errors
/// [`DataDirError`] says what is wrong and what to do.
pub fn prepare_data_dir(path: &Path) -> Result<(), DataDirError> {
    let io = |source| DataDirError::Io { path: path.to_owned(), source };
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    match std::fs::metadata(path) {
        Ok(metadata) => check(path, &metadata)?,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        }
        Err(err) => return Err(io(err)),
    }
    // Root may write anywhere but on a read-only file system, so a mode tells nothing: try.
    let probe = path.join(".writable");
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&probe)
        .map_err(io)?;
    std::fs::remove_file(&probe).map_err(io)
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), DataDirError> {
    if !metadata.is_dir() {
        return Err(DataDirError::NotADirectory(path.to_owned()));
    }
    let me = nix::unistd::geteuid().as_raw();
    if metadata.uid() != me {
        return Err(DataDirError::Owner { path: path.to_owned(), owner: metadata.uid(), me });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(DataDirError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_directory_is_for_its_owner_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        prepare_data_dir(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        prepare_data_dir(&path).unwrap();
    }

    #[test]
    fn an_open_directory_is_refused_with_what_to_do() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let err = prepare_data_dir(temp.path()).unwrap_err().to_string();
        assert!(err.contains("755") && err.contains("chmod 700"), "{err}");
    }

    #[test]
    fn a_file_is_no_data_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let err = prepare_data_dir(file.path()).unwrap_err();
        assert!(matches!(err, DataDirError::NotADirectory(_)), "{err}");
    }
}
