//! Documents of every kind.

use access_client::proto;
use access_client::proto::resources_server::Resources;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::admit::Method;
use crate::resources::{Events, Mode};

#[async_trait]
impl Resources for Api {
    async fn get(
        &self,
        request: Request<proto::GetRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        self.call(Method::Get, request, |auth, call, request| async move {
            auth.get(&call, request).await
        })
        .await
    }

    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        self.call(Method::List, request, |auth, call, request| async move {
            auth.list(&call, request).await
        })
        .await
    }

    async fn create(
        &self,
        request: Request<proto::WriteRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        self.call(Method::Create, request, |auth, call, request| async move {
            auth.write(&call, request, Mode::Create).await
        })
        .await
    }

    async fn update(
        &self,
        request: Request<proto::WriteRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        self.call(Method::Update, request, |auth, call, request| async move {
            auth.write(&call, request, Mode::Update).await
        })
        .await
    }

    async fn put(
        &self,
        request: Request<proto::WriteRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        self.call(Method::Put, request, |auth, call, request| async move {
            auth.write(&call, request, Mode::Put).await
        })
        .await
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteRequest>,
    ) -> Result<Response<proto::DeleteResponse>, Status> {
        self.call(Method::Delete, request, |auth, call, request| async move {
            auth.delete(&call, request).await?;
            Ok(proto::DeleteResponse {})
        })
        .await
    }

    type WatchStream = Events;

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Events>, Status> {
        self.call(Method::Watch, request, |auth, call, request| async move {
            auth.watch(call, request).await
        })
        .await
    }
}
