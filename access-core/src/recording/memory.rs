//! A recorder that keeps its recordings in memory, for tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::error::RecordingError;
use super::meta::RecordingMeta;
use super::recorder::{Append, AppendedSession, Recorder, RecordingSession};
use super::sign::RecordingSigner;

/// Keeps recordings in memory, also those that are being made. For tests.
///
/// Clones share their recordings.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # use access_core::recording::*;
/// # use access_core::{SessionId, Timestamp, UserName};
/// # let meta = RecordingMeta::new(
/// #     SessionId::new("s-1").unwrap(), RecordingKind::Ssh, UserName::new("alice").unwrap(),
/// #     "node/web-1", Timestamp::EPOCH,
/// # );
/// // A disk that is full after 100 bytes.
/// let recorder = MemoryRecorder::new(None).with_room(100);
/// assert!(matches!(recorder.start(meta).await, Err(RecordingError::Storage(_))));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct MemoryRecorder {
    shared: Arc<Mutex<Shared>>,
    signer: Option<Arc<dyn RecordingSigner>>,
}

#[derive(Debug)]
struct Shared {
    recordings: Vec<MemoryRecording>,
    room: usize,
}

/// A recording in memory.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemoryRecording {
    /// Whose.
    pub meta: RecordingMeta,
    /// Its bytes until now.
    pub bytes: Vec<u8>,
    /// Whether it was ended.
    pub finished: bool,
}

impl MemoryRecorder {
    /// How many bytes it keeps of all recordings together, if nothing else is said: 64 MiB.
    pub const ROOM: usize = 64 * 1024 * 1024;

    /// A recorder that signs, or does not.
    pub fn new(signer: Option<Arc<dyn RecordingSigner>>) -> Self {
        let shared = Shared { recordings: Vec::new(), room: Self::ROOM };
        Self { shared: Arc::new(Mutex::new(shared)), signer }
    }

    /// Lets it keep this many more bytes, after which it fails like a full disk.
    pub fn with_room(self, bytes: usize) -> Self {
        self.lock().room = bytes;
        self
    }

    /// What was recorded.
    pub fn recordings(&self) -> Vec<MemoryRecording> {
        self.lock().recordings.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Recorder for MemoryRecorder {
    async fn start(
        &self,
        meta: RecordingMeta,
    ) -> Result<Box<dyn RecordingSession>, RecordingError> {
        let place = {
            let mut shared = self.lock();
            let recording =
                MemoryRecording { meta: meta.clone(), bytes: Vec::new(), finished: false };
            shared.recordings.push(recording);
            shared.recordings.len() - 1
        };
        let to = MemoryFile { recorder: self.clone(), place };
        let session = AppendedSession::start(to, meta, self.signer.clone()).await?;
        Ok(Box::new(session))
    }
}

#[derive(Debug)]
struct MemoryFile {
    recorder: MemoryRecorder,
    place: usize,
}

#[async_trait]
impl Append for MemoryFile {
    async fn append(&mut self, bytes: Bytes) -> Result<(), RecordingError> {
        let mut shared = self.recorder.lock();
        shared.room = shared
            .room
            .checked_sub(bytes.len())
            .ok_or_else(|| RecordingError::Storage("no space left in memory".into()))?;
        if let Some(recording) = shared.recordings.get_mut(self.place) {
            recording.bytes.extend_from_slice(&bytes);
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), RecordingError> {
        if let Some(recording) = self.recorder.lock().recordings.get_mut(self.place) {
            recording.finished = true;
        }
        Ok(())
    }
}
