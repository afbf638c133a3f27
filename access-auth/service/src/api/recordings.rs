//! Recordings.

use access_client::proto;
use access_client::proto::recordings_server::Recordings;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::Api;
use crate::admit::Method;
use crate::error::Error;
use crate::recordings::Parts;

#[async_trait]
impl Recordings for Api {
    async fn upload(
        &self,
        request: Request<Streaming<proto::RecordingPart>>,
    ) -> Result<Response<proto::UploadResponse>, Status> {
        // As long as it takes: each part has its own deadline. A client that goes away ends it.
        let call = self.0.admit(Method::Upload, &request).await?;
        let host = call.host().ok_or_else(|| Error::Denied("this is for hosts".into()))?;
        Ok(Response::new(self.0.upload(host, request.into_inner()).await?))
    }

    async fn list(
        &self,
        request: Request<proto::ListRecordingsRequest>,
    ) -> Result<Response<proto::ListRecordingsResponse>, Status> {
        self.call(Method::ListRecordings, request, |auth, _, request| async move {
            auth.list_recordings(request).await
        })
        .await
    }

    type DownloadStream = Parts;

    async fn download(
        &self,
        request: Request<proto::DownloadRequest>,
    ) -> Result<Response<Parts>, Status> {
        self.call(Method::Download, request, |auth, call, request| async move {
            auth.download(&call, request).await
        })
        .await
    }
}
