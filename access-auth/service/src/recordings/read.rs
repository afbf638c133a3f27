//! Listing recordings and reading them.

use access_backend::{Cursor, KeyRange, Prefix};
use access_client::proto;
use access_client::types::RecordingSpec;
use access_core::SessionId;
use access_core::audit::events::{Outcome, SessionRecordingAccess};
use access_core::audit::{AuditSink, Durability};
use bytes::Bytes;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::upload::MAX_PART;
use super::{Place, document_key, failed, place_key};
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::service::AuthService;
use crate::store;

/// Parts that wait for a slow client.
const QUEUE: usize = 4;
/// The most bytes of one part that is sent.
const PART: usize = MAX_PART / 4;

/// What a client gets.
pub(crate) type Parts = ReceiverStream<Result<proto::RecordingPart, Status>>;

impl AuthService {
    /// A page of recordings.
    pub(crate) async fn list_recordings(
        &self,
        request: proto::ListRecordingsRequest,
    ) -> Result<proto::ListRecordingsResponse> {
        let range = KeyRange::from(Prefix::from_segments(["recordings"])?);
        let after = match request.page_token.as_str() {
            "" => None,
            id => Some(Cursor::after(document_key(&SessionId::new(id)?)?)),
        };
        let size = match usize::try_from(request.page_size).unwrap_or(1000) {
            0 => 200,
            size => size.min(1000),
        };
        // The documents are the index: no object is looked at. One of the last seconds may be missing.
        let page = self.inner.storage.backend.range_lately(&range, size, after.as_ref()).await?;
        let recordings = page
            .items
            .iter()
            .map(|item| Ok(store::read::<RecordingSpec>(item)?.document.to_json()?))
            .collect::<Result<_>>()?;
        let next_page_token =
            page.next.map(|next| next.key().name().to_owned()).unwrap_or_default();
        Ok(proto::ListRecordingsResponse { recordings, next_page_token })
    }

    /// The bytes of a recording, once it is written down who reads them.
    pub(crate) async fn download(
        &self,
        call: &Call,
        request: proto::DownloadRequest,
    ) -> Result<Parts> {
        let session = SessionId::new(&request.session_id)?;
        let backend = &*self.inner.storage.backend;
        let place = store::row::<Place>(backend, &place_key(&session)?).await?;
        let outcome = match &place {
            Some(_) => Outcome::succeeded(),
            None => Outcome::failed("there is no such recording"),
        };
        let event = SessionRecordingAccess {
            outcome,
            user: call.actor().user,
            sid: session.clone(),
            format: Some("download".into()),
        };
        self.inner.audit.accept(event.into(), Durability::Synced).await?;
        let place = place.ok_or_else(|| {
            Error::NotFound(format!("there is no recording of session {session}"))
        })?;
        let object =
            self.inner.recordings.get(&Path::from(place.value.object)).await.map_err(failed)?;
        let mut bytes = object.into_stream();
        let (parts, stream) = mpsc::channel(QUEUE);
        let pause = self.inner.limits.pause;
        let sending = async move {
            let mut session_id = session.as_str().to_owned();
            while let Some(chunk) = bytes.next().await {
                let mut chunk: Bytes = match chunk {
                    Ok(chunk) => chunk,
                    Err(err) => {
                        let _ = parts.send(Err(failed(err).into())).await;
                        return;
                    }
                };
                while !chunk.is_empty() {
                    let data = chunk.split_to(PART.min(chunk.len())).to_vec();
                    let part =
                        proto::RecordingPart { session_id: std::mem::take(&mut session_id), data };
                    // A client that reads nothing holds no file open for ever.
                    match tokio::time::timeout(pause, parts.send(Ok(part))).await {
                        Ok(Ok(())) => {}
                        _ => return,
                    }
                }
            }
        };
        self.inner.tasks.spawn(self.inner.closing.clone().run_until_cancelled_owned(sending));
        Ok(ReceiverStream::new(stream))
    }
}
