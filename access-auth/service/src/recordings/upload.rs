//! Taking a recording in: one object for a session, never another in its place.

use std::sync::Arc;

use access_backend::{Batch, Condition, Operation};
use access_client::proto;
use access_client::types::{RecordingDocument, RecordingSpec, RecordingState};
use access_core::audit::events::SessionUpload;
use access_core::audit::{AuditSink, Durability};
use access_core::recording::{Ending, RecordingMeta, RecordingReader};
use access_core::{HostId, SessionId};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use ring::digest::{Context, SHA256};
use tonic::Status;

use super::{Place, document_key, failed, place_key};
use crate::error::{Error, Result};
use crate::secrets;
use crate::service::AuthService;
use crate::store;

/// The most bytes of one part.
pub(crate) const MAX_PART: usize = 1024 * 1024;
/// Bytes that are gathered before they are handed to the object store: what S3 demands of a part.
const CHUNK: usize = 5 * 1024 * 1024;

impl AuthService {
    /// Takes in one recording from a host. The same bytes again change nothing; others are
    /// refused.
    pub(crate) async fn upload(
        &self,
        host: &HostId,
        mut parts: impl Stream<Item = Result<proto::RecordingPart, Status>> + Unpin,
    ) -> Result<proto::UploadResponse> {
        let first = self.next_part(&mut parts).await?.ok_or_else(|| {
            Error::Invalid("the upload has no part: the first names the session".into())
        })?;
        let session = SessionId::new(&first.session_id)?;
        let _slot = tokio::time::timeout(self.inner.limits.pause, self.inner.uploads.acquire())
            .await
            .map_err(|_| Error::Limited("too many recordings are uploaded at once".into()))?;
        let held = self.recording(&session).await?;
        if let Some(held) = &held
            && held.host != *host
        {
            return Err(taken(&session));
        }
        let mut taking = match held {
            Some(_) => Taking::compare(),
            None => self.begin(&session)?,
        };
        let received = self.receive(&mut taking, first, &session, &mut parts).await;
        let whole = match received {
            Ok(()) => taking.finish().await,
            Err(err) => Err((err, taking.to)),
        };
        let whole = match whole {
            Ok(whole) => whole,
            Err((err, object)) => {
                if let Some(object) = object {
                    object.abort().await;
                }
                return Err(err);
            }
        };
        let size = whole.size;
        match held {
            Some(held) if held.sha256 == whole.sha256 => {}
            Some(_) => return Err(taken(&session)),
            None => self.keep(&session, host, whole).await?,
        }
        Ok(proto::UploadResponse { size })
    }

    fn begin(&self, session: &SessionId) -> Result<Taking> {
        // A name of its own: what another upload writes at the same moment is another object.
        let suffix = data_encoding::HEXLOWER.encode(&secrets::random::<8>()?);
        let path = Path::from(format!("{session}-{suffix}.rec"));
        let store = Arc::clone(&self.inner.recordings);
        Ok(Taking { to: Some(Object { store, path, upload: None }), ..Taking::compare() })
    }

    async fn receive(
        &self,
        taking: &mut Taking,
        first: proto::RecordingPart,
        session: &SessionId,
        parts: &mut (impl Stream<Item = Result<proto::RecordingPart, Status>> + Unpin),
    ) -> Result<()> {
        let mut part = Some(first);
        while let Some(proto::RecordingPart { session_id, data }) = part {
            if !session_id.is_empty() && session_id != session.as_str() {
                return Err(Error::Invalid("an upload is of one session".into()));
            }
            if data.len() > MAX_PART {
                return Err(Error::Invalid(format!("a part may have {MAX_PART} bytes at most")));
            }
            taking.push(&data).await?;
            if taking.size > self.inner.limits.recording {
                return Err(Error::Invalid(format!(
                    "a recording may have {} bytes at most",
                    self.inner.limits.recording
                )));
            }
            part = self.next_part(parts).await?;
        }
        if taking.size == 0 {
            return Err(Error::Invalid("the recording is empty".into()));
        }
        Ok(())
    }

    async fn next_part(
        &self,
        parts: &mut (impl Stream<Item = Result<proto::RecordingPart, Status>> + Unpin),
    ) -> Result<Option<proto::RecordingPart>> {
        match tokio::time::timeout(self.inner.limits.pause, parts.next()).await {
            Err(_) => Err(Error::Deadline("the upload paused for too long".into())),
            Ok(None) => Ok(None),
            Ok(Some(Ok(part))) => Ok(Some(part)),
            Ok(Some(Err(status))) => {
                Err(Error::Invalid(format!("the upload broke off: {}", status.message())))
            }
        }
    }

    /// Makes a recording known whose object is complete.
    async fn keep(&self, session: &SessionId, host: &HostId, whole: Whole) -> Result<()> {
        let Whole { object, size, sha256, meta, state } = whole;
        let (meta, state) = match meta {
            Some(meta) if meta.session_id != *session => (None, RecordingState::Damaged),
            meta => (meta, state),
        };
        let spec = RecordingSpec {
            session: session.clone(),
            host: host.clone(),
            protocol: meta.as_ref().map(|m| m.kind.as_str().to_owned()).unwrap_or_default(),
            user: meta.as_ref().map(|m| m.user.as_str().to_owned()).unwrap_or_default(),
            login: meta.as_ref().and_then(|m| m.login.as_ref()).map(ToString::to_string),
            target: meta.as_ref().map(|m| m.target.as_str().to_owned()).unwrap_or_default(),
            started: meta.as_ref().map(|m| m.started),
            uploaded: self.now(),
            size,
            sha256: sha256.clone(),
            state,
        };
        let document = RecordingDocument::new(session.as_str(), spec);
        let (key, place) = (document_key(session)?, Place { object: object.to_string() });
        let batch = Batch::new()
            .when(Condition::absent(key.clone()))
            .then(Operation::Put(store::new_document(key, &document)?))
            .then(Operation::Put(store::new_row(place_key(session)?, &place)?));
        match self.commit(batch).await {
            Ok(_) => {}
            Err(access_backend::Error::ConditionFailed { .. }) => {
                // Another upload of the session was faster: its bytes count.
                self.discard(&object).await;
                return match self.recording(session).await? {
                    Some(held) if held.host == *host && held.sha256 == sha256 => Ok(()),
                    _ => Err(taken(session)),
                };
            }
            Err(err) => {
                self.discard(&object).await;
                return Err(err.into());
            }
        }
        let event = SessionUpload {
            sid: session.clone(),
            url: Some(object.to_string().into()),
            size: Some(size),
            state: Some(state.as_str().into()),
        };
        Ok(self.inner.audit.accept(event.into(), Durability::Synced).await?)
    }

    async fn discard(&self, object: &Path) {
        if let Err(error) = self.inner.recordings.delete(object).await {
            tracing::warn!(%object, %error, "an unused recording cannot be removed");
        }
    }

    pub(super) async fn recording(&self, session: &SessionId) -> Result<Option<RecordingSpec>> {
        let backend = &*self.inner.storage.backend;
        let stored = store::document::<RecordingSpec>(backend, &document_key(session)?).await?;
        Ok(stored.map(|stored| stored.document.spec))
    }
}

fn taken(session: &SessionId) -> Error {
    Error::AlreadyExists(format!("session {session} has another recording already"))
}

/// An object that is being written. One that is smaller than a part is put in one go.
struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
    upload: Option<Box<dyn MultipartUpload>>,
}

impl Object {
    async fn part(&mut self, bytes: Bytes) -> Result<()> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => {
                let begun = self.store.put_multipart(&self.path).await.map_err(failed)?;
                self.upload.insert(begun)
            }
        };
        upload.put_part(payload(bytes)).await.map_err(failed)
    }

    async fn complete(&mut self, rest: Bytes) -> Result<()> {
        if self.upload.is_none() {
            return self.store.put(&self.path, payload(rest)).await.map(drop).map_err(failed);
        }
        if !rest.is_empty() {
            self.part(rest).await?;
        }
        match &mut self.upload {
            Some(upload) => upload.complete().await.map(drop).map_err(failed),
            None => Ok(()),
        }
    }

    async fn abort(self) {
        if let Some(mut upload) = self.upload
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(%error, "a broken upload cannot be removed");
        }
    }
}

/// A recording that is coming in.
struct Taking {
    /// `None` when it is only compared with what is there.
    to: Option<Object>,
    gathered: BytesMut,
    digest: Context,
    size: u64,
    reader: RecordingReader,
    meta: Option<RecordingMeta>,
}

/// One that came in whole.
struct Whole {
    object: Path,
    size: u64,
    sha256: String,
    meta: Option<RecordingMeta>,
    state: RecordingState,
}

impl Taking {
    fn compare() -> Self {
        Self {
            to: None,
            gathered: BytesMut::new(),
            digest: Context::new(&SHA256),
            size: 0,
            reader: RecordingReader::trusting_nobody(),
            meta: None,
        }
    }

    async fn push(&mut self, data: &[u8]) -> Result<()> {
        self.digest.update(data);
        self.size = self.size.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        let Some(object) = &mut self.to else { return Ok(()) };
        self.reader.push(data);
        if self.meta.is_none() {
            self.meta = self.reader.meta().cloned();
        }
        // Reading on frees what was pushed.
        while self.reader.next_chunk().is_some() {}
        self.gathered.extend_from_slice(data);
        if self.gathered.len() >= CHUNK {
            object.part(self.gathered.split().freeze()).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Whole, (Error, Option<Object>)> {
        if let Some(object) = &mut self.to
            && let Err(err) = object.complete(self.gathered.split().freeze()).await
        {
            return Err((err, self.to));
        }
        Ok(Whole {
            object: self.to.map(|object| object.path).unwrap_or_default(),
            size: self.size,
            sha256: data_encoding::HEXLOWER.encode(self.digest.finish().as_ref()),
            meta: self.meta,
            state: state(&self.reader.finish()),
        })
    }
}

fn payload(bytes: Bytes) -> PutPayload {
    PutPayload::from_bytes(bytes)
}

fn state(ending: &Ending) -> RecordingState {
    match ending {
        // Whose signatures count is for those who read it to say.
        Ending::Complete { .. } | Ending::Untrusted { .. } => RecordingState::Complete,
        Ending::Unsigned { .. } => RecordingState::Unsigned,
        Ending::Truncated { .. } => RecordingState::Truncated,
        Ending::Tampered { .. } => RecordingState::Damaged,
        _ => RecordingState::Unknown,
    }
}
