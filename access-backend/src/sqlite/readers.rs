//! Connections that read beside the writer, each used by one blocking thread at a time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{Semaphore, watch};

use super::schema;
use crate::Error;

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    size: u32,
    /// For reads, which are short.
    reads: Arc<Semaphore>,
    /// For snapshots, which last as long as their watcher takes; so slow ones cost reads nothing.
    snapshots: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Read,
    Snapshot,
}

impl Readers {
    pub(super) fn new(path: PathBuf, size: usize) -> Arc<Self> {
        let size = u16::try_from(size.max(1)).unwrap_or(u16::MAX);
        Arc::new(Self {
            path,
            idle: Mutex::default(),
            size: size.into(),
            reads: Arc::new(Semaphore::new(size.into())),
            snapshots: Arc::new(Semaphore::new(size.into())),
            closing: watch::Sender::new(false),
        })
    }

    /// Runs `work` on a blocking thread with a connection of its own.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        purpose: Purpose,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permits = match purpose {
            Purpose::Read => self.reads.clone(),
            Purpose::Snapshot => self.snapshots.clone(),
        };
        let permit = permits.acquire_owned().await.map_err(|_| Error::Closed)?;
        let readers = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let mut connection = readers.take()?;
            let answer = work(&mut connection);
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(permit);
            answer
        });
        task.await.map_err(|error| Error::unavailable(format!("a read was cut short: {error}")))?
    }

    /// Turns true when the store closes.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Waits for the reads under way, refuses others, and closes the connections.
    pub(super) async fn close(&self) {
        self.closing.send_replace(true);
        for permits in [&self.reads, &self.snapshots] {
            // Fails where they are closed already.
            drop(permits.acquire_many(self.size).await);
            permits.close();
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take(&self) -> Result<Connection, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::open_reader(&self.path), Ok)
    }
}
