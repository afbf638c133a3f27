//! What one does with one's own identity.

use access_client::proto;
use access_client::proto::identity_server::Identity;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::admit::Method;
use crate::error::Error;

#[async_trait]
impl Identity for Api {
    async fn who_am_i(
        &self,
        request: Request<proto::WhoAmIRequest>,
    ) -> Result<Response<proto::WhoAmIResponse>, Status> {
        self.call(Method::WhoAmI, request, |_, call, _| async move {
            let who =
                call.identity().ok_or_else(|| Error::Internal("nobody was admitted".into()))?;
            let identity =
                who.identity().encode().map_err(|err| Error::Internal(err.to_string()))?;
            let not_after = who.validity().not_after().as_millis();
            Ok(proto::WhoAmIResponse { identity, not_after })
        })
        .await
    }

    async fn renew_host(
        &self,
        request: Request<proto::RenewHostRequest>,
    ) -> Result<Response<proto::Credentials>, Status> {
        self.call(Method::RenewHost, request, |auth, call, request| async move {
            auth.renew_host(&call, request).await
        })
        .await
    }

    async fn issue_database_certificate(
        &self,
        request: Request<proto::DatabaseCertificateRequest>,
    ) -> Result<Response<proto::DatabaseCertificate>, Status> {
        self.call(Method::IssueDatabaseCertificate, request, |auth, call, request| async move {
            auth.issue_database_certificate(&call, request).await
        })
        .await
    }

    async fn logout(
        &self,
        request: Request<proto::LogoutRequest>,
    ) -> Result<Response<proto::LogoutResponse>, Status> {
        self.call(Method::Logout, request, |auth, call, _| async move {
            auth.logout(&call).await?;
            Ok(proto::LogoutResponse {})
        })
        .await
    }
}
