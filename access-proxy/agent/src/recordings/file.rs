//! The file of one recording while it is made.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use access_core::SessionId;
use access_core::recording::{Append, RecordingError};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::Shared;
use crate::files;

/// How long what was written may stay with the system before it is the disk's. A crash of the
/// process loses nothing of it, only one of the machine.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// A file that grows. While it lives, nobody uploads it.
pub(super) struct RecordingFile {
    shared: Arc<Shared>,
    session: SessionId,
    path: PathBuf,
    file: Arc<File>,
    len: u64,
    synced: Instant,
}

impl RecordingFile {
    pub(super) async fn create(
        shared: Arc<Shared>,
        session: &SessionId,
    ) -> Result<Self, RecordingError> {
        if !shared.active().insert(session.clone()) {
            let why = format!("session {session} is recorded already");
            return Err(RecordingError::Storage(why));
        }
        let path = shared.path(session);
        let made = {
            let path = path.clone();
            blocking(move || {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)?;
                files::sync_parent(&path)?;
                Ok(file)
            })
            .await
        };
        match made {
            Ok(file) => {
                let (session, file) = (session.clone(), Arc::new(file));
                Ok(Self { shared, session, path, file, len: 0, synced: Instant::now() })
            }
            Err(err) => {
                shared.active().remove(session);
                Err(err)
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[async_trait]
impl Append for RecordingFile {
    async fn append(&mut self, bytes: Bytes) -> Result<(), RecordingError> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.shared.used.load(Ordering::Relaxed).saturating_add(more) > self.shared.max_bytes {
            let why = "recordings take as much space as they may: bring the auth service back";
            return Err(RecordingError::Storage(why.into()));
        }
        let sync = self.len == 0 || self.synced.elapsed() >= SYNC_EVERY;
        let (file, at) = (Arc::clone(&self.file), self.len);
        blocking(move || {
            if let Err(err) = file.write_all_at(&bytes, at) {
                // If this fails too, the next attempt writes over it.
                drop(file.set_len(at));
                return Err(err);
            }
            if sync { file.sync_data() } else { Ok(()) }
        })
        .await?;
        self.len += more;
        self.shared.used.fetch_add(more, Ordering::Relaxed);
        if sync {
            self.synced = Instant::now();
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), RecordingError> {
        let file = Arc::clone(&self.file);
        blocking(move || file.sync_all()).await
    }
}

impl Drop for RecordingFile {
    fn drop(&mut self) {
        self.shared.active().remove(&self.session);
        self.shared.ended.send_modify(|tick| *tick = tick.wrapping_add(1));
    }
}

impl std::fmt::Debug for RecordingFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingFile").field("path", &self.path).finish_non_exhaustive()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RecordingError> {
    let storage = |err: io::Error| {
        let why = if files::is_full(&err) { "the disk is full".into() } else { err.to_string() };
        RecordingError::Storage(why)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
        .and_then(|r| r)
        .map_err(storage)
}
