//! The gRPC services: each method is admitted, then done within a deadline by a task of its own,
//! so that a client that goes away leaves nothing half done.

mod about;
mod admin;
mod audit;
mod documents;
mod entry;
mod recordings;

use std::future::Future;

use access_client::proto::admin_server::AdminServer;
use access_client::proto::audit_server::AuditServer;
use access_client::proto::entry_server::EntryServer;
use access_client::proto::identity_server::IdentityServer;
use access_client::proto::recordings_server::RecordingsServer;
use access_client::proto::resources_server::ResourcesServer;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::admit::Method;
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::service::AuthService;

/// The largest message, in bytes.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// The largest message of a stranger, in bytes.
const MAX_ENTRY: usize = 64 * 1024;
/// The largest message of an upload, in bytes: a part and what frames it.
const MAX_PART: usize = 1024 * 1024 + 4096;

/// The services, as a connection needs them.
#[derive(Clone, Debug)]
pub(crate) struct Api(AuthService);

impl Api {
    /// All services.
    pub(crate) fn routes(service: &AuthService) -> Routes {
        let api = Self(service.clone());
        Routes::new(EntryServer::new(api.clone()).max_decoding_message_size(MAX_ENTRY))
            .add_service(IdentityServer::new(api.clone()).max_decoding_message_size(MAX_ENTRY))
            .add_service(AdminServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
            .add_service(ResourcesServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
            .add_service(AuditServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
            .add_service(RecordingsServer::new(api).max_decoding_message_size(MAX_PART))
    }

    /// Admits a call and does it.
    async fn call<T, R, F, D>(
        &self,
        method: Method,
        request: Request<T>,
        work: D,
    ) -> Result<Response<R>, Status>
    where
        R: Send + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
        D: FnOnce(AuthService, Call, T) -> F,
    {
        let call = self.0.admit(method, &request).await?;
        let work = work(self.0.clone(), call, request.into_inner());
        let task = tokio::spawn(work);
        match tokio::time::timeout(self.0.inner.limits.call, task).await {
            Ok(Ok(done)) => Ok(Response::new(done?)),
            Ok(Err(err)) => Err(Error::Internal(format!("a call broke: {err}")).into()),
            Err(_) => Err(Error::Deadline("the call took too long".into()).into()),
        }
    }
}
