//! What each kind demands of a document before it is written.

use std::time::Duration;

use access_backend::{Condition, Item, NewItem, Operation, Value};
use access_client::types::{
    AppSpec, ClusterConfigDocument, ClusterConfigSpec, DbDocument, DesktopSpec, KubeSpec,
    LockDocument, NodeSpec, RoleDocument, Served, ServerDocument, UserDocument, UserSpec,
};
use access_core::document::{Document, DocumentSpec};
use access_core::policy::{ApiKind, LockTarget};
use access_core::role::{Role, RoleConditions, Values};
use access_core::{HostId, ResourceKind, RoleName, Timestamp, UserName};

use super::kinds::KindEntry;
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::hosts::{HostRecord, Owner, host_key};
use crate::service::AuthService;
use crate::store;

/// How long a document of a host stays when its host does not say.
const HEARTBEAT: Duration = Duration::from_secs(600);
/// The longest that it stays.
const MAX_HEARTBEAT: Duration = Duration::from_secs(3600);

/// A document that may be written.
pub(super) struct Prepared {
    pub(super) item: NewItem,
    /// What has to hold, and what is written, beside it.
    pub(super) conditions: Vec<Condition>,
    pub(super) operations: Vec<Operation>,
    /// For the event.
    pub(super) value: serde_json::Value,
    pub(super) expires: Option<Timestamp>,
}

impl AuthService {
    /// Reads, checks and completes a document. `old` is what it replaces; `force` has a role be
    /// written that a connected host is too old to read.
    pub(super) async fn prepare(
        &self,
        call: &Call,
        entry: KindEntry,
        value: serde_json::Value,
        old: Option<&Item>,
        force: bool,
    ) -> Result<Prepared> {
        match entry.kind {
            ApiKind::User => {
                let mut user = UserDocument::from_value(value)?;
                self.check_user(&user).await?;
                self.complete_user(call, &mut user, old)?;
                self.finish(entry, user, None)
            }
            ApiKind::Role => {
                let role = RoleDocument::from_value(value)?;
                self.check_role(&role).await?;
                if !force {
                    self.check_enforcers(&role).await?;
                }
                self.finish(entry, role, None)
            }
            ApiKind::Lock => {
                let lock = LockDocument::from_value(value)?;
                self.check_lock(&lock).await?;
                let expires = lock.spec.expires;
                self.finish(entry, lock, expires)
            }
            ApiKind::Node => self.prepare_read::<NodeSpec>(call, entry, value).await,
            ApiKind::Db => {
                let document = DbDocument::from_value(value)?;
                if document.spec.is_dynamic() {
                    return self.prepare_dynamic(call, entry, document).await;
                }
                self.prepare_served(call, entry, document).await
            }
            ApiKind::App => self.prepare_read::<AppSpec>(call, entry, value).await,
            ApiKind::Kube => self.prepare_read::<KubeSpec>(call, entry, value).await,
            ApiKind::Desktop => self.prepare_read::<DesktopSpec>(call, entry, value).await,
            ApiKind::Server => {
                let server = self.prepare_server(call, ServerDocument::from_value(value)?)?;
                self.finish(entry, server, None)
            }
            ApiKind::ClusterConfig => {
                let config = ClusterConfigDocument::from_value(value)?;
                self.check_config(&config, old)?;
                self.finish(entry, config, None)
            }
            ApiKind::Token => refuse("join tokens are made with `accessctl tokens add`"),
            ApiKind::Invite => refuse("invitations are made with `accessctl users add|reset`"),
            ApiKind::Authority => refuse("authorities are changed by rotating them"),
            ApiKind::Session => refuse("recordings are made by the hosts of sessions"),
            ApiKind::Certificate | ApiKind::AccessRequest | ApiKind::Event => {
                refuse("documents of this kind cannot be written")
            }
        }
    }

    pub(super) fn finish<S: DocumentSpec>(
        &self,
        entry: KindEntry,
        document: Document<S>,
        expires: Option<Timestamp>,
    ) -> Result<Prepared> {
        let name = &document.metadata.name;
        let key = entry
            .key(name, self.cluster().as_str())
            .map_err(|_| Error::Invalid(format!("metadata.name: {name:.80} cannot be a name")))?;
        let expires = document.metadata.expires.or(expires);
        if expires.is_some_and(|expires| expires <= self.now()) {
            return Err(Error::Invalid("metadata.expires: that moment has passed".into()));
        }
        let json = store::bare(&document)?;
        let value =
            serde_json::from_slice(&json).map_err(|err| Error::Internal(err.to_string()))?;
        let item = store::expiring(NewItem::new(key, Value::new(json)?), expires);
        Ok(Prepared { item, conditions: Vec::new(), operations: Vec::new(), value, expires })
    }

    fn complete_user(
        &self,
        call: &Call,
        user: &mut UserDocument,
        old: Option<&Item>,
    ) -> Result<()> {
        let spec = &mut user.spec;
        match old {
            Some(old) => {
                let old = store::read::<UserSpec>(old)?.document.spec;
                spec.valid_after = old.valid_after;
                self.void(spec);
                spec.created_by = old.created_by;
                spec.created_at = old.created_at;
            }
            None => {
                self.void(spec);
                spec.created_by = Some(call.name());
                spec.created_at = Some(self.now());
            }
        }
        Ok(())
    }

    async fn check_role(&self, role: &RoleDocument) -> Result<()> {
        Role::compile(role).map_err(|err| Error::Invalid(err.to_string()))?;
        let own = &role.metadata.name;
        for (side, conditions) in [("allow", &role.spec.allow), ("deny", &role.spec.deny)] {
            let RoleConditions { request, review_requests, .. } = conditions;
            self.check_roles(own, &request.roles, &format!("spec.{side}.request.roles")).await?;
            let field = format!("spec.{side}.review_requests.roles");
            self.check_roles(own, &review_requests.roles, &field).await?;
        }
        Ok(())
    }

    /// Roles that are written out must exist; patterns stand for what there is.
    async fn check_roles(&self, own: &str, roles: &Values, field: &str) -> Result<()> {
        for role in roles.iter().filter(|role| !role.contains('*') && !role.starts_with('^')) {
            if role.as_str() != own {
                self.check_role_exists(&RoleName::new(role)?, field).await?;
            }
        }
        Ok(())
    }

    async fn check_lock(&self, lock: &LockDocument) -> Result<()> {
        match &lock.spec.target {
            LockTarget::User(user) => self.check_user_exists(user).await,
            LockTarget::Role(role) => self.check_role_exists(role, "spec.target.role").await,
            // What is named may come later.
            LockTarget::Login(_)
            | LockTarget::Node(_)
            | LockTarget::Resource(_)
            | LockTarget::MfaDevice(_)
            | LockTarget::AccessRequest(_) => Ok(()),
        }
    }

    async fn check_user_exists(&self, user: &UserName) -> Result<()> {
        self.user(user).await.map(drop).map_err(|err| match err {
            Error::NotFound(why) => Error::Invalid(format!("spec.target.user: {why}")),
            other => other,
        })
    }

    async fn prepare_read<S: Served>(
        &self,
        call: &Call,
        entry: KindEntry,
        value: serde_json::Value,
    ) -> Result<Prepared> {
        self.prepare_served(call, entry, Document::<S>::from_value(value)?).await
    }

    /// The agent of a resource tells of it; whoever else writes it must leave it with its owner.
    async fn prepare_served<S: Served>(
        &self,
        call: &Call,
        entry: KindEntry,
        mut document: Document<S>,
    ) -> Result<Prepared> {
        document.spec.check()?;
        let resource = document.spec.resource(&document.metadata)?;
        let owner = self.owner_of(&resource.id).await?;
        if owner == Some(Owner::Administrators) {
            return Err(Error::Precondition(format!(
                "spec.host: {} was registered by an administrator and has none: take the field \
                 out, or remove it first with `accessctl rm {}`",
                resource.id, resource.id
            )));
        }
        if owner != Some(Owner::Host(resource.host.clone())) {
            return Err(Error::Precondition(format!(
                "spec.host: {} {} does not belong to host {}: it has to join with a token first",
                entry.kind, resource.id.name, resource.host
            )));
        }
        if call.host().is_some() {
            if resource.id.kind == ResourceKind::Database {
                self.keep_to_first(&resource).await?;
            }
            document.metadata.expires = Some(self.heartbeat(document.metadata.expires));
        }
        let record = self.host_record(&resource.host).await?;
        document.metadata.labels.extend(record.labels);
        if document.metadata.labels.len() > 256 {
            return Err(Error::Invalid("metadata.labels: 256 at most".into()));
        }
        self.finish(entry, document, None)
    }

    fn prepare_server(&self, call: &Call, mut server: ServerDocument) -> Result<ServerDocument> {
        let Some((id, services)) = call.identity().and_then(|who| who.host()) else {
            return refuse("proxies and Auth replicas tell about themselves");
        };
        if server.spec.host != *id || server.metadata.name != id.as_str() {
            return Err(Error::Denied("a host may tell only about itself".into()));
        }
        if !services.contains(&server.spec.service) {
            return Err(Error::Denied(format!("this host is no {}", server.spec.service)));
        }
        if server.spec.public_addrs.len() > 64 {
            return Err(Error::Invalid("spec.public_addrs: 64 at most".into()));
        }
        server.metadata.expires = Some(self.heartbeat(server.metadata.expires));
        Ok(server)
    }

    fn check_config(&self, config: &ClusterConfigDocument, old: Option<&Item>) -> Result<()> {
        if config.metadata.name != ClusterConfigSpec::NAME {
            return Err(Error::Invalid(format!(
                "metadata.name: there is one such document, {:?}",
                ClusterConfigSpec::NAME
            )));
        }
        let old = old.ok_or_else(|| Error::Internal("the cluster has no settings".into()))?;
        let old = store::read::<ClusterConfigSpec>(old)?.document.spec;
        let new = &config.spec;
        let same = old.cluster_name == new.cluster_name
            && old.cluster_id == new.cluster_id
            && old.created_at == new.created_at;
        if !same || config.metadata.expires.is_some() {
            return Err(Error::Invalid(
                "the cluster's name, id and time of making cannot change, and it does not expire"
                    .into(),
            ));
        }
        Ok(())
    }

    pub(super) fn heartbeat(&self, asked: Option<Timestamp>) -> Timestamp {
        let now = self.now();
        asked.unwrap_or_else(|| now.plus(HEARTBEAT)).min(now.plus(MAX_HEARTBEAT))
    }

    pub(super) async fn host_record(&self, id: &HostId) -> Result<HostRecord> {
        store::row::<HostRecord>(&*self.inner.storage.backend, &host_key(id)?)
            .await?
            .map(|row| row.value)
            .ok_or_else(|| Error::Precondition(format!("there is no host {id}")))
    }
}

fn refuse<T>(why: &str) -> Result<T> {
    Err(Error::Invalid(why.to_owned()))
}
