//! Joining: a stranger with a token becomes a host.

use access_backend::{Batch, Condition, Operation};
use access_client::proto;
use access_core::audit::events::{InstanceJoin, InstanceJoinCode, Outcome};
use access_core::audit::{AuditSink, Durability};

use super::claims::read_id;
use super::{Claims, HostRecord, host_key};
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::issue::{HostGrant, Keys};
use crate::secrets;
use crate::service::AuthService;
use crate::store;

/// How often joining is tried again when others use the same token at the same moment.
const ATTEMPTS: usize = 64;

impl AuthService {
    /// Certificates for a new host, or for one that lost its certificates and still has its keys.
    pub(crate) async fn join(
        &self,
        call: &Call,
        request: proto::JoinRequest,
    ) -> Result<proto::Credentials> {
        let about = About::of(&request);
        let joined = self.try_join(request).await;
        let (code, outcome, host_id) = match &joined {
            Ok(credentials) => (
                InstanceJoinCode::Joined,
                Outcome::succeeded(),
                Some(credentials.host_id.as_str().into()),
            ),
            // The token is good for nothing any more.
            Err(err @ Error::Precondition(_)) => {
                (InstanceJoinCode::LimitReached, Outcome::failed(err), None)
            }
            Err(err) => (InstanceJoinCode::Failed, Outcome::failed(err), None),
        };
        let event = InstanceJoin {
            code,
            outcome,
            node_name: about.nodename.as_str().into(),
            host_id,
            role: about.services.as_str().into(),
            method: "token".into(),
            token_name: about.token.map(|token| token.as_str().into()),
            addr_remote: call.peer.remote(),
        };
        self.inner.audit.accept(event.into(), Durability::Synced).await?;
        joined
    }

    async fn try_join(&self, request: proto::JoinRequest) -> Result<proto::Credentials> {
        let proto::JoinRequest { token, keys, host_id, claims } = request;
        let token = zeroize::Zeroizing::new(token);
        let ticket = Self::read_token(&token)?;
        let keys = Keys::read(keys)?;
        let id = read_id(&host_id)?;
        let backend = &*self.inner.storage.backend;
        for _ in 0..ATTEMPTS {
            // The token first: without one nobody learns what is taken.
            let token = self.open_token(&ticket).await?;
            let claims = Claims::read(claims.clone(), self.cluster(), &id)?;
            let spec = &token.document.spec;
            if let Some(service) = claims.services.iter().find(|s| !spec.types.contains(s)) {
                let types: Vec<_> = spec.types.iter().map(|service| service.as_str()).collect();
                return Err(Error::Denied(format!(
                    "the join token is for {}, not for {service}",
                    types.join(",")
                )));
            }
            let key = host_key(&id)?;
            let known = store::row::<HostRecord>(backend, &key).await?;
            let digest = keys.digest()?;
            let (generation, condition) = match &known {
                // Knowing an id proves nothing; its keys are good for nobody else.
                Some(row) if row.value.keys != digest => {
                    return Err(Error::AlreadyExists(format!(
                        "the host id {id} is taken: if this is the same machine, join with the \
                         keys that it had, or start it with an empty data directory and release \
                         its nodes with `accessctl rm node/NAME`"
                    )));
                }
                Some(row) => (
                    row.value.generation.saturating_add(1),
                    Condition::revision(key.clone(), row.revision),
                ),
                None => (1, Condition::absent(key.clone())),
            };
            let record = HostRecord {
                id: id.clone(),
                services: claims.services.clone(),
                bound: spec.names.clone(),
                labels: spec.labels.clone(),
                databases: claims.databases.clone(),
                generation,
                keys: digest,
                joined_at: self.now(),
            };
            let batch = Self::use_token(Batch::new(), &token)?
                .when(condition)
                .then(Operation::Put(store::new_row(key, &record)?));
            let batch = self.claim(batch, &id, &spec.names, &claims.resources).await?;
            let batch = self.keep_apart(batch, &id, &claims.public_names).await?;
            match self.commit(batch).await {
                Ok(_) => {
                    self.inner.presence.forget(&id);
                    let resources = self.with_dynamic(&spec.names, &claims).await?;
                    let Claims { services, public_names, .. } = claims;
                    let grant = HostGrant { id, services, resources, public_names, generation };
                    return self.issue_host(grant, keys).await;
                }
                Err(access_backend::Error::ConditionFailed { .. }) => {
                    tokio::task::yield_now().await;
                }
                Err(err) => return Err(err.into()),
            }
        }
        Err(Error::Conflict("many hosts join with this token at once: try again".into()))
    }
}

/// What is written down of a join, whether or not it can be read.
struct About {
    nodename: String,
    services: String,
    token: Option<String>,
}

impl About {
    fn of(request: &proto::JoinRequest) -> Self {
        let claims = request.claims.clone().unwrap_or_default();
        let mut services = claims.services;
        services.truncate(16);
        Self {
            nodename: claims.nodename,
            services: services.join(","),
            // The public half alone.
            token: secrets::Ticket::parse(&request.token).map(|ticket| ticket.id),
        }
    }
}
