//! What strangers may call.

use access_client::proto;
use access_client::proto::entry_server::Entry;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::admit::Method;

#[async_trait]
impl Entry for Api {
    async fn ping(
        &self,
        request: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingResponse>, Status> {
        self.call(Method::Ping, request, |auth, _, _| async move {
            Ok(proto::PingResponse {
                cluster_name: auth.cluster().as_str().to_owned(),
                version: crate::VERSION.to_owned(),
                time: auth.now().as_millis(),
            })
        })
        .await
    }

    async fn login(
        &self,
        request: Request<proto::LoginRequest>,
    ) -> Result<Response<proto::Credentials>, Status> {
        self.call(Method::Login, request, |auth, call, request| async move {
            auth.login(&call, request).await
        })
        .await
    }

    async fn redeem_invite(
        &self,
        request: Request<proto::RedeemInviteRequest>,
    ) -> Result<Response<proto::RedeemInviteResponse>, Status> {
        self.call(Method::RedeemInvite, request, |auth, call, request| async move {
            auth.redeem_invite(&call, request).await
        })
        .await
    }

    async fn join(
        &self,
        request: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::Credentials>, Status> {
        self.call(Method::Join, request, |auth, call, request| async move {
            auth.join(&call, request).await
        })
        .await
    }
}
