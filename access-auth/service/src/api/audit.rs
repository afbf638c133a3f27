//! The audit log.

use access_client::proto;
use access_client::proto::audit_server::Audit;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::admit::Method;
use crate::error::Error;

#[async_trait]
impl Audit for Api {
    async fn emit(
        &self,
        request: Request<proto::EmitRequest>,
    ) -> Result<Response<proto::EmitResponse>, Status> {
        self.call(Method::Emit, request, |auth, call, request| async move {
            let host = call.host().ok_or_else(|| Error::Denied("this is for hosts".into()))?;
            auth.receive_events(host, request).await
        })
        .await
    }

    async fn search(
        &self,
        request: Request<proto::SearchRequest>,
    ) -> Result<Response<proto::SearchResponse>, Status> {
        self.call(Method::Search, request, |auth, _, request| async move {
            auth.search_events(request).await
        })
        .await
    }
}
