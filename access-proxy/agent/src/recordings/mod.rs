//! Recordings wait here, on this machine's disk, until Auth has them.
//!
//! Each session has a file of its own, which grows while the session lasts. Whatever ends the
//! session or the process, the file is whole to its last chunk, and is uploaded as it is: at its
//! end, or at the next start.

mod file;
mod signer;
mod spares;
mod upload;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use access_core::recording::{
    AppendedSession, Recorder, RecordingError, RecordingMeta, RecordingSession, RingSigner,
};
use access_core::{SessionId, Timestamp};
use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::AgentError;
use crate::files;
use file::RecordingFile;
use signer::LateSigner;
use spares::Spares;

/// Gives the key that signs recordings at this moment.
pub type SignerSource = Arc<dyn Fn() -> Result<RingSigner, RecordingError> + Send + Sync>;

/// How much recordings may take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordingOptions {
    /// Bytes that recordings may take on the disk until they are uploaded. Default 8 GiB.
    pub max_bytes: u64,
}

impl Default for RecordingOptions {
    fn default() -> Self {
        Self { max_bytes: 8 * 1024 * 1024 * 1024 }
    }
}

/// A recorder that keeps recordings in a folder until they are uploaded. Clones share it.
#[derive(Clone)]
pub struct SpoolRecorder {
    shared: Arc<Shared>,
    signer: SignerSource,
}

struct Shared {
    dir: PathBuf,
    max_bytes: u64,
    used: AtomicU64,
    spares: Spares,
    /// Sessions that are being recorded.
    active: Mutex<HashSet<SessionId>>,
    /// Ticks when a recording has ended.
    ended: watch::Sender<u64>,
}

impl SpoolRecorder {
    /// Opens the folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`AgentError::File`] when it can't be used.
    pub fn open(
        dir: impl Into<PathBuf>,
        options: RecordingOptions,
        signer: SignerSource,
    ) -> Result<Self, AgentError> {
        let dir = dir.into();
        files::make_dir(&dir).map_err(|err| AgentError::file(&dir, err))?;
        let spares = Spares::open(dir.clone()).map_err(|err| AgentError::file(&dir, err))?;
        let shared = Shared {
            max_bytes: options.max_bytes,
            used: AtomicU64::new(0),
            spares,
            active: Mutex::default(),
            ended: watch::Sender::new(0),
            dir,
        };
        let waiting = shared.waiting().map_err(|err| AgentError::file(&shared.dir, err))?;
        shared.used.store(waiting.iter().map(|file| file.size).sum(), Ordering::Relaxed);
        Ok(Self { shared: Arc::new(shared), signer })
    }

    /// Recordings that wait to be uploaded.
    pub fn backlog(&self) -> usize {
        self.shared.waiting().map_or(0, |waiting| waiting.len())
    }

    /// When a session's recording was last written, if there is one.
    pub fn last_written(&self, session: &SessionId) -> Option<Timestamp> {
        let modified = std::fs::metadata(self.shared.path(session)).ok()?.modified().ok()?;
        let millis = modified.duration_since(UNIX_EPOCH).ok()?.as_millis();
        Some(Timestamp::from_millis(i64::try_from(millis).ok()?))
    }
}

#[async_trait]
impl Recorder for SpoolRecorder {
    async fn start(
        &self,
        meta: RecordingMeta,
    ) -> Result<Box<dyn RecordingSession>, RecordingError> {
        let file = RecordingFile::new(Arc::clone(&self.shared), &meta.session_id)?;
        let signer = Arc::new(LateSigner::new(Arc::clone(&self.signer)));
        // Of one that cannot be begun there is nothing to keep, and the file sees to that.
        Ok(Box::new(AppendedSession::start(file, meta, Some(signer)).await?))
    }
}

impl std::fmt::Debug for SpoolRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpoolRecorder").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

/// A recording that is complete, or as complete as it will ever be.
#[derive(Clone)]
struct Waiting {
    session: SessionId,
    path: PathBuf,
    size: u64,
}

impl Shared {
    fn path(&self, session: &SessionId) -> PathBuf {
        self.dir.join(format!("{session}.rec"))
    }

    /// Recordings that nobody writes any more.
    fn waiting(&self) -> std::io::Result<Vec<Waiting>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let session = name
                .to_str()
                .and_then(|name| name.strip_suffix(".rec"))
                .and_then(|stem| SessionId::new(stem).ok());
            if let Some(session) = session
                && !self.active().contains(&session)
            {
                let size = entry.metadata()?.len();
                found.push(Waiting { session, path: entry.path(), size });
            }
        }
        Ok(found)
    }

    fn active(&self) -> MutexGuard<'_, HashSet<SessionId>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
