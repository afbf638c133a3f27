//! A file system of its own, small enough to be filled.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::run;

/// A file system in memory, gone when this is dropped. Mounting it takes root.
pub struct Volume {
    dir: tempfile::TempDir,
}

impl Volume {
    /// Mounts one of so many KiB.
    pub fn of_kib(kib: u64) -> Self {
        let dir = tempfile::Builder::new().prefix("access-e2e-volume-").tempdir().unwrap();
        let volume = Self { dir };
        let options = format!("size={kib}k,mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(volume.path());
        run(&mut mount, "").ok();
        volume
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes it appear under another path, which must be free.
    pub fn at(self, path: &Path) -> Self {
        std::os::unix::fs::symlink(self.path(), path).unwrap();
        self
    }

    /// Takes all the space that is left, until the file is removed.
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let full = std::io::copy(&mut std::io::repeat(7), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
        path
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: a process that is only about to end may still be in it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
