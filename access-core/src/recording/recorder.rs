//! What a protocol records with, and what keeps it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

use super::error::RecordingError;
use super::meta::{RecordingEnd, RecordingMeta, TerminalSize};
use super::sign::RecordingSigner;
use super::writer::RecordingWriter;
use crate::time::Timestamp;

/// Starts recordings.
///
/// Whether a session goes on when recording fails is the caller's decision, by the user's roles:
/// one that must be recorded does not start, or ends; another goes on without.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use access_core::recording::*;
/// use access_core::{SessionId, Timestamp, UserName};
///
/// let recorder = MemoryRecorder::new(None);
/// let start = Timestamp::from_secs(100);
/// let meta = RecordingMeta::new(
///     SessionId::new("s-1").unwrap(),
///     RecordingKind::Ssh,
///     UserName::new("alice").unwrap(),
///     "node/web-1",
///     start,
/// );
/// let mut session = recorder.start(meta).await?;
/// session.output(start, b"$ ")?;
/// if session.due(start) {
///     session.flush().await?;
/// }
/// session.finish(RecordingEnd::new(start, "exit")).await?;
/// assert!(recorder.recordings()[0].finished);
/// # Ok::<(), RecordingError>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait Recorder: Send + Sync + fmt::Debug {
    /// Starts a recording; its first bytes are kept when this returns.
    ///
    /// # Errors
    /// [`RecordingError`] when nothing can be recorded.
    async fn start(&self, meta: RecordingMeta)
    -> Result<Box<dyn RecordingSession>, RecordingError>;
}

/// A recording that is being made.
///
/// `output`, `input`, `resize` and `event` only copy, and compress now and then: they can be
/// called where bytes are relayed. Once one of these methods fails, all that follow may fail, and
/// what was recorded until then is kept. A session that is dropped without
/// [`RecordingSession::finish`] leaves a recording that breaks off.
#[async_trait]
pub trait RecordingSession: Send + fmt::Debug {
    /// Records what the session printed.
    ///
    /// # Errors
    /// [`RecordingError::Backlog`] when `flush` was not called for long, or what failed before.
    fn output(&mut self, at: Timestamp, data: &[u8]) -> Result<(), RecordingError>;

    /// Records what was typed.
    ///
    /// # Errors
    /// As those of [`RecordingSession::output`].
    fn input(&mut self, at: Timestamp, data: &[u8]) -> Result<(), RecordingError>;

    /// Records that the terminal got another size.
    ///
    /// # Errors
    /// As those of [`RecordingSession::output`].
    fn resize(&mut self, at: Timestamp, size: TerminalSize) -> Result<(), RecordingError>;

    /// Records an event of another protocol, such as `db.query`.
    ///
    /// # Errors
    /// As those of [`RecordingWriter::event`] and [`RecordingSession::output`].
    fn event(&mut self, at: Timestamp, code: &str, data: &Value) -> Result<(), RecordingError>;

    /// When [`RecordingSession::flush`] should be called, if there is anything to write.
    fn deadline(&self) -> Option<Timestamp>;

    /// Whether it should be called now: that moment has come, or whole chunks wait.
    fn due(&self, now: Timestamp) -> bool;

    /// Writes away what was recorded.
    ///
    /// # Errors
    /// [`RecordingError::Storage`] when it can't be written; it is kept, and tried again with the
    /// next call.
    async fn flush(&mut self) -> Result<(), RecordingError>;

    /// Ends the recording and signs it.
    ///
    /// # Errors
    /// [`RecordingError::Storage`], or [`RecordingError::Signature`]: then it is whole but
    /// unsigned.
    async fn finish(self: Box<Self>, end: RecordingEnd) -> Result<(), RecordingError>;
}

/// A place to which a recording's bytes are appended, such as a file.
///
/// ```
/// use access_core::recording::{Append, RecordingError};
/// #[derive(Debug, Default)]
/// struct Counter(usize);
/// #[async_trait::async_trait]
/// impl Append for Counter {
///     async fn append(&mut self, bytes: bytes::Bytes) -> Result<(), RecordingError> {
///         self.0 += bytes.len();
///         Ok(())
///     }
///     async fn close(&mut self) -> Result<(), RecordingError> {
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Append: Send + fmt::Debug {
    /// Appends all of these bytes, or none that stay: what a failed call has written is cut off
    /// or overwritten by the next one, which gets the same bytes again.
    ///
    /// # Errors
    /// [`RecordingError::Storage`].
    async fn append(&mut self, bytes: Bytes) -> Result<(), RecordingError>;

    /// Nothing follows: sees to it that what was appended becomes durable, here or elsewhere. It need
    /// not be when this returns.
    ///
    /// # Errors
    /// [`RecordingError::Storage`].
    async fn close(&mut self) -> Result<(), RecordingError>;
}

/// The [`RecordingSession`] over anything that bytes can be appended to.
///
/// ```
/// # use access_core::recording::*;
/// # use access_core::{SessionId, Timestamp, UserName};
/// # async fn example(file: impl Append + 'static, meta: RecordingMeta) -> Result<(), RecordingError> {
/// let mut session = AppendedSession::start(file, meta, None).await?;
/// session.output(Timestamp::from_secs(100), b"hello")?;
/// session.flush().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AppendedSession<A> {
    writer: RecordingWriter,
    to: A,
    signer: Option<Arc<dyn RecordingSigner>>,
    /// Taken from the writer and not appended yet.
    unwritten: Bytes,
}

impl<A: Append> AppendedSession<A> {
    /// The most that may wait for a flush.
    pub const MAX_PENDING: usize = 8 * 1024 * 1024;

    /// Starts a recording and appends its first bytes. It is signed at its end, if there is a
    /// signer.
    ///
    /// # Errors
    /// Those of [`RecordingWriter::new`] and [`Append::append`].
    pub async fn start(
        to: A,
        meta: RecordingMeta,
        signer: Option<Arc<dyn RecordingSigner>>,
    ) -> Result<Self, RecordingError> {
        let writer = RecordingWriter::new(&meta)?;
        let mut session = Self { writer, to, signer, unwritten: Bytes::new() };
        session.write().await?;
        Ok(session)
    }

    fn room(&self) -> Result<(), RecordingError> {
        let pending = self.writer.pending() + self.unwritten.len();
        if pending > Self::MAX_PENDING { Err(RecordingError::Backlog { pending }) } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), RecordingError> {
        // Two rounds at most: what an earlier call could not write, then the rest.
        while !self.unwritten.is_empty() || self.writer.pending() > 0 {
            if self.unwritten.is_empty() {
                self.unwritten = self.writer.take();
            }
            self.to.append(self.unwritten.clone()).await?;
            self.unwritten = Bytes::new();
        }
        Ok(())
    }
}

#[async_trait]
impl<A: Append> RecordingSession for AppendedSession<A> {
    fn output(&mut self, at: Timestamp, data: &[u8]) -> Result<(), RecordingError> {
        self.room()?;
        self.writer.output(at, data);
        Ok(())
    }

    fn input(&mut self, at: Timestamp, data: &[u8]) -> Result<(), RecordingError> {
        self.room()?;
        self.writer.input(at, data);
        Ok(())
    }

    fn resize(&mut self, at: Timestamp, size: TerminalSize) -> Result<(), RecordingError> {
        self.room()?;
        self.writer.resize(at, size);
        Ok(())
    }

    fn event(&mut self, at: Timestamp, code: &str, data: &Value) -> Result<(), RecordingError> {
        self.room()?;
        self.writer.event(at, code, data)
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.writer.deadline()
    }

    fn due(&self, now: Timestamp) -> bool {
        self.writer.pending() > 0 || !self.unwritten.is_empty() || self.writer.due(now)
    }

    async fn flush(&mut self) -> Result<(), RecordingError> {
        self.writer.seal();
        self.write().await
    }

    async fn finish(mut self: Box<Self>, end: RecordingEnd) -> Result<(), RecordingError> {
        let signer = self.signer.clone();
        let finished = self.writer.finish(&end, signer.as_deref());
        self.write().await?;
        self.to.close().await?;
        finished
    }
}
