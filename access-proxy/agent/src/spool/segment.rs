//! The files of the spool, each named by the number of its first event.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files;

/// The file that is being written.
pub(super) struct Active {
    pub(super) first: u64,
    pub(super) file: Arc<File>,
    pub(super) len: u64,
}

/// A file that is complete.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) len: u64,
}

impl Active {
    /// Begins a file.
    pub(super) fn create(dir: &Path, first: u64) -> io::Result<Self> {
        let file = files::open_rw(&path(dir, first))?;
        // One of this name was begun before and never written.
        file.set_len(0)?;
        Ok(Self { first, file: Arc::new(file), len: 0 })
    }

    /// Appends whole lines, or nothing.
    pub(super) fn append(&mut self, line: &[u8]) -> Result<(), Failed> {
        append(&self.file, &mut self.len, line)
    }
}

/// Why nothing was appended.
#[derive(Debug)]
pub(super) enum Failed {
    /// The file is as it was.
    Clean(io::Error),
    /// The file may end with a part of what was to be appended.
    Dirty(io::Error),
}

/// Appends to a file that ends at `len`, or leaves it as it was.
pub(super) fn append(file: &File, len: &mut u64, bytes: &[u8]) -> Result<(), Failed> {
    match file.write_all_at(bytes, *len) {
        Ok(()) => {
            *len += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            Ok(())
        }
        Err(err) => match file.set_len(*len) {
            Ok(()) => Err(Failed::Clean(err)),
            Err(_) => Err(Failed::Dirty(err)),
        },
    }
}

/// Where a segment is.
pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// The first numbers of the segments in a folder, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log"))
            .filter(|stem| stem.len() == 20)
            .and_then(|stem| stem.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}
