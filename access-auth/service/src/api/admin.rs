//! What administrators do.

use access_client::proto;
use access_client::proto::admin_server::Admin;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::admit::Method;

#[async_trait]
impl Admin for Api {
    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        self.call(Method::Status, request, |auth, _, _| async move { auth.status().await }).await
    }

    async fn create_user(
        &self,
        request: Request<proto::CreateUserRequest>,
    ) -> Result<Response<proto::Invitation>, Status> {
        self.call(Method::CreateUser, request, |auth, call, request| async move {
            auth.create_user(&call, request).await
        })
        .await
    }

    async fn reset_user(
        &self,
        request: Request<proto::ResetUserRequest>,
    ) -> Result<Response<proto::Invitation>, Status> {
        self.call(Method::ResetUser, request, |auth, call, request| async move {
            auth.reset_user(&call, request).await
        })
        .await
    }

    async fn create_token(
        &self,
        request: Request<proto::CreateTokenRequest>,
    ) -> Result<Response<proto::Token>, Status> {
        self.call(Method::CreateToken, request, |auth, call, request| async move {
            auth.create_token(&call, request).await
        })
        .await
    }

    async fn sign_user(
        &self,
        request: Request<proto::SignUserRequest>,
    ) -> Result<Response<proto::Credentials>, Status> {
        self.call(Method::SignUser, request, |auth, call, request| async move {
            auth.sign_user(&call, request).await
        })
        .await
    }

    async fn sign_host(
        &self,
        request: Request<proto::SignHostRequest>,
    ) -> Result<Response<proto::Credentials>, Status> {
        self.call(Method::SignHost, request, |auth, _, request| async move {
            auth.sign_host(request).await
        })
        .await
    }
}
