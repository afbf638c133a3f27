//! The files of recordings that Auth has, for those to come.
//!
//! Many file systems take longer to make a file and to remove one than to write a short recording
//! into it: one without a journal looks, for each new file, for a place that was not in use lately.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::files;

/// The most files that are kept.
const MOST: usize = 64;
/// How their names end.
const ENDING: &str = "spare";

/// Empty files in the folder of recordings.
pub(super) struct Spares {
    dir: PathBuf,
    paths: Mutex<Vec<PathBuf>>,
    next: AtomicU64,
}

impl Spares {
    /// None yet; those of an earlier process are removed: only one that still runs is sure that
    /// they are empty.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                files::remove(&path)?;
            }
        }
        Ok(Self { dir, paths: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// An empty file of this name, mode 0600. When there is one of the name already, that is an
    /// error.
    pub(super) fn take(&self, path: &Path) -> io::Result<File> {
        if !path.try_exists()?
            && let Some(spare) = self.paths().pop()
            && fs::rename(spare, path).is_ok()
        {
            return OpenOptions::new().read(true).write(true).open(path);
        }
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    /// Takes a file that nobody needs any more out of its place; it is no error if it is not there.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        if self.paths().len() >= MOST {
            return files::remove(path);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let spare = self.dir.join(format!("{number}.{ENDING}"));
        // Emptied first: under another name it is another session's.
        let emptied = OpenOptions::new().write(true).truncate(true).open(path);
        if emptied.and_then(|_| fs::rename(path, &spare)).is_err() {
            return files::remove(path);
        }
        self.paths().push(spare);
        Ok(())
    }

    fn paths(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn what_was_given_is_taken_empty() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::open(dir.path().to_owned()).unwrap();
        let (one, two) = (dir.path().join("one.rec"), dir.path().join("two.rec"));
        let made = spares.take(&one).unwrap();
        fs::write(&one, "secret").unwrap();
        spares.give(&one).unwrap();
        assert!(!one.exists());
        let again = spares.take(&two).unwrap().metadata().unwrap();
        assert_eq!(again.ino(), made.metadata().unwrap().ino());
        assert_eq!((again.len(), again.permissions().mode() & 0o777), (0, 0o600));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_there_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::open(dir.path().to_owned()).unwrap();
        let (one, two) = (dir.path().join("one.rec"), dir.path().join("two.rec"));
        fs::write(&one, "").unwrap();
        fs::write(&two, "kept").unwrap();
        spares.give(&one).unwrap();
        assert_eq!(spares.take(&two).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&two).unwrap(), b"kept");
        spares.take(&one).unwrap();
        assert_eq!(spares.paths().len(), 0, "the spare one was not lost");
    }

    #[test]
    fn they_are_bounded_and_do_not_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::open(dir.path().to_owned()).unwrap();
        let path = dir.path().join("x.rec");
        spares.give(&path).unwrap();
        for _ in 0..=MOST {
            fs::write(&path, "x").unwrap();
            spares.give(&path).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MOST);
        Spares::open(dir.path().to_owned()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        // One that somebody has removed is not missed.
        spares.take(&path).unwrap();
    }
}
