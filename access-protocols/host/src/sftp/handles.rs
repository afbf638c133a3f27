//! What a client has open.

use std::collections::HashMap;
use std::fs::{File, ReadDir};
use std::path::PathBuf;

use super::wire::Status;

/// The most that one session holds open, below the usual limit of descriptors of a process.
pub(super) const MAX_HANDLES: usize = 900;

/// Something open.
#[derive(Debug)]
pub(super) enum Open {
    File {
        file: File,
        /// Whether every write goes to the end, wherever the client says.
        append: bool,
    },
    Directory {
        path: PathBuf,
        entries: ReadDir,
    },
}

/// Everything open, by number. Numbers are never used twice in a session.
#[derive(Debug, Default)]
pub(super) struct Handles {
    next: u64,
    open: HashMap<u64, Open>,
}

impl Handles {
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= MAX_HANDLES
    }

    /// Keeps something, and returns what the client calls it by.
    pub(super) fn insert(&mut self, open: Open) -> [u8; 8] {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, open);
        number.to_be_bytes()
    }

    pub(super) fn remove(&mut self, handle: &[u8]) -> Result<Open, Status> {
        self.open.remove(&number(handle)?).ok_or(Status::Failure)
    }

    pub(super) fn file(&self, handle: &[u8]) -> Result<(&File, bool), Status> {
        match self.open.get(&number(handle)?) {
            Some(Open::File { file, append }) => Ok((file, *append)),
            _ => Err(Status::Failure),
        }
    }

    pub(super) fn directory(
        &mut self,
        handle: &[u8],
    ) -> Result<(&std::path::Path, &mut ReadDir), Status> {
        match self.open.get_mut(&number(handle)?) {
            Some(Open::Directory { path, entries }) => Ok((path, entries)),
            _ => Err(Status::Failure),
        }
    }

    pub(super) fn get(&self, handle: &[u8]) -> Result<&Open, Status> {
        self.open.get(&number(handle)?).ok_or(Status::Failure)
    }
}

fn number(handle: &[u8]) -> Result<u64, Status> {
    handle.try_into().map(u64::from_be_bytes).map_err(|_| Status::BadMessage)
}
