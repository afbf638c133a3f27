//! The file of one recording while it is made.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use access_core::SessionId;
use access_core::recording::{Append, RecordingError};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::Shared;
use crate::files;

/// How long what was written may stay with the system before it is the disk's. A crash of the
/// process loses nothing of it, only one of the machine.
const SYNC_EVERY: Duration = Duration::from_secs(5);
/// How long the beginning of a file, its name and its end may: nobody waits for these. What Auth
/// has by then, as it mostly does, is not synced at all.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// A file that grows.
pub(super) struct RecordingFile {
    active: Arc<Active>,
    path: PathBuf,
    file: Option<Arc<File>>,
    len: u64,
    synced: Instant,
    /// Syncs the beginning and the name.
    first: Option<JoinHandle<Result<(), RecordingError>>>,
}

/// That a recording is being written. While it lives, nobody uploads the file or gives it to
/// another session: it is held by whoever writes, and a write outlives who has stopped waiting for it.
struct Active {
    shared: Arc<Shared>,
    session: SessionId,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.shared.active().remove(&self.session);
        self.shared.ended.send_modify(|tick| *tick = tick.wrapping_add(1));
    }
}

impl RecordingFile {
    /// A file that is made when the first bytes are appended: the two together are one turn of a
    /// thread that may block.
    pub(super) fn new(shared: Arc<Shared>, session: &SessionId) -> Result<Self, RecordingError> {
        if !shared.active().insert(session.clone()) {
            let why = format!("session {session} is recorded already");
            return Err(RecordingError::Storage(why));
        }
        let path = shared.path(session);
        let active = Arc::new(Active { shared, session: session.clone() });
        Ok(Self { active, path, file: None, len: 0, synced: Instant::now(), first: None })
    }
}

#[async_trait]
impl Append for RecordingFile {
    async fn append(&mut self, bytes: Bytes) -> Result<(), RecordingError> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let shared = &self.active.shared;
        if shared.used.load(Ordering::Relaxed).saturating_add(more) > shared.max_bytes {
            let why = "recordings take as much space as they may: bring the auth service back";
            return Err(RecordingError::Storage(why.into()));
        }
        if let Some(first) = self.first.take_if(|first| first.is_finished()) {
            joined(first.await)?;
        }
        let sync = self.synced.elapsed() >= SYNC_EVERY;
        let (known, path, at) = (self.file.clone(), self.path.clone(), self.len);
        let active = Arc::clone(&self.active);
        let file = blocking(move || {
            let is_new = known.is_none();
            let file = match known {
                Some(file) => file,
                None => Arc::new(active.shared.spares.take(&path)?),
            };
            if let Err(err) = file.write_all_at(&bytes, at) {
                // If this fails too, the next attempt writes over it, or finds it in its way.
                drop(if is_new { files::remove(&path) } else { file.set_len(at) });
                return Err(err);
            }
            // The first sync of a new file is its own task's.
            if sync && !is_new {
                file.sync_data()?;
            }
            Ok(file)
        })
        .await?;
        if self.file.is_none() {
            self.first = Some(tokio::spawn(settle(Arc::clone(&file), self.path.clone(), true)));
            self.file = Some(file);
        }
        self.len += more;
        self.active.shared.used.fetch_add(more, Ordering::Relaxed);
        if sync {
            self.synced = Instant::now();
        }
        Ok(())
    }

    /// What the last appends brought is the disk's a moment later, unless Auth is faster.
    async fn close(&mut self) -> Result<(), RecordingError> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let named = match self.first.take() {
            Some(first) if first.is_finished() => {
                joined(first.await)?;
                true
            }
            Some(first) => {
                first.abort();
                false
            }
            None => true,
        };
        let (path, session) = (self.path.clone(), self.active.session.clone());
        tokio::spawn(async move {
            if let Err(err) = settle(file, path, !named).await {
                tracing::warn!(%err, %session, "a recording that has ended cannot be synced");
            }
        });
        Ok(())
    }
}

impl std::fmt::Debug for RecordingFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Syncs a file in a moment, unless it has been uploaded and is gone from its place by then.
async fn settle(file: Arc<File>, path: PathBuf, name_too: bool) -> Result<(), RecordingError> {
    tokio::time::sleep(SETTLE_AFTER).await;
    // The system knows without asking the disk; most are gone by then.
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Ok(());
    }
    blocking(move || {
        file.sync_all()?;
        if name_too { files::sync_parent(&path) } else { Ok(()) }
    })
    .await
}

fn joined(done: Result<Result<(), RecordingError>, JoinError>) -> Result<(), RecordingError> {
    done.map_err(|err| RecordingError::Storage(err.to_string()))?
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

#[cfg(test)]
mod tests {
    use super::super::{RecordingOptions, SpoolRecorder};
    use super::*;

    #[test]
    fn a_write_that_nobody_waits_for_keeps_the_file_from_the_uploader_and_other_sessions() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().max_blocking_threads(1).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let unsigned = || Err(RecordingError::Signature("no key".into()));
        let options = RecordingOptions::default();
        let recorder = SpoolRecorder::open(dir.path(), options, Arc::new(unsigned)).unwrap();
        let shared = Arc::clone(&recorder.shared);
        let session = SessionId::new("s-1").unwrap();
        runtime.block_on(async {
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || wait.recv());
            let mut file = RecordingFile::new(Arc::clone(&shared), &session).unwrap();
            let mut ended = shared.ended.subscribe();
            assert!(futures::poll!(file.append(Bytes::from_static(b"x"))).is_pending());
            drop(file);
            assert!(shared.active().contains(&session), "the write is still to come");
            go.send(()).unwrap();
            busy.await.unwrap().unwrap();
            ended.changed().await.unwrap();
            let waiting = shared.waiting().unwrap();
            assert_eq!(waiting.iter().map(|file| file.size).collect::<Vec<_>>(), [1]);
        });
    }
}
