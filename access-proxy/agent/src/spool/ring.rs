//! Strangers' failures: two files, of which the older is emptied when the newer is full.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{Found, Line, lines};
use super::segment::{Failed, append};
use crate::files;

/// The ring. Its events are numbered on their own; numbers that never reach the journal were
/// overwritten, which is how they are counted.
pub(super) struct Ring {
    files: [RingFile; 2],
    /// Which of the two is written.
    current: usize,
    half: u64,
    next: u64,
}

struct RingFile {
    path: PathBuf,
    file: Arc<File>,
    len: u64,
}

/// An event of the ring, as it was written.
pub(super) struct RingEvent {
    pub(super) number: u64,
    pub(super) json: Vec<u8>,
}

impl Ring {
    /// Opens the ring; `taken` is the last number that was taken out of it.
    pub(super) fn open(dir: &Path, bytes: u64, taken: u64) -> io::Result<Self> {
        let (one, last_one) = RingFile::open(dir.join("strangers.a"))?;
        let (two, last_two) = RingFile::open(dir.join("strangers.b"))?;
        let current = usize::from(last_two > last_one);
        let next = last_one.max(last_two).max(taken).saturating_add(1);
        Ok(Self { files: [one, two], current, half: (bytes / 2).max(1), next })
    }

    /// The number that the next event gets.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Writes an event; gives back the file to be synced.
    pub(super) fn push(&mut self, json: &[u8]) -> Result<Arc<File>, Failed> {
        let line = Line { number: self.next, origin: None, json }.encode();
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let half = self.half;
        if self.current_file().is_some_and(|file| file.len > 0 && file.len + len > half) {
            self.current = 1 - self.current;
            if let Some(file) = self.current_file() {
                file.file.set_len(0).map_err(Failed::Clean)?;
                file.len = 0;
            }
        }
        let missing = || Failed::Clean(io::ErrorKind::NotFound.into());
        let file = self.current_file().ok_or_else(missing)?;
        append(&file.file, &mut file.len, &line)?;
        let written = Arc::clone(&file.file);
        self.next += 1;
        Ok(written)
    }

    /// Where the events are.
    pub(super) fn paths(&self) -> [PathBuf; 2] {
        self.files.each_ref().map(|file| file.path.clone())
    }

    fn current_file(&mut self) -> Option<&mut RingFile> {
        self.files.get_mut(self.current)
    }
}

impl RingFile {
    /// Opens a file and finds the last number in it; what a crash tore is cut off.
    fn open(path: PathBuf) -> io::Result<(Self, u64)> {
        let file = files::open_rw(&path)?;
        let bytes = std::fs::read(&path)?;
        let (mut last, mut whole) = (0, 0);
        for found in lines(&bytes) {
            match found {
                Found::Line(line, end) => (last, whole) = (line.number.max(last), end),
                Found::Damaged(_) => {}
            }
        }
        let len = u64::try_from(whole).unwrap_or(0);
        file.set_len(len)?;
        Ok((Self { path, file: Arc::new(file), len }, last))
    }
}

/// At most `max` events after number `taken`, in order. Read while the ring may be written: what
/// was overwritten meanwhile is not found, and nothing is found twice.
pub(super) fn read(paths: &[PathBuf; 2], taken: u64, max: usize) -> io::Result<Vec<RingEvent>> {
    let mut found = Vec::new();
    for path in paths {
        for line in lines(&std::fs::read(path)?) {
            if let Found::Line(line, _) = line
                && line.number > taken
            {
                found.push(RingEvent { number: line.number, json: line.json.to_vec() });
            }
        }
    }
    found.sort_unstable_by_key(|event| event.number);
    found.dedup_by_key(|event| event.number);
    found.truncate(max);
    Ok(found)
}
