//! What is written down of changes to documents.

use access_core::audit::events::{
    JoinTokenDelete, LockCreated, LockDeleted, ResourceCreate, ResourceDelete, ResourceRelease,
    ResourceUpdate, RoleCreated, RoleDeleted, RoleUpdated, UserCreate, UserDelete, UserUpdate,
};
use access_core::audit::{AuditSink, Durability, Event, Object};
use access_core::policy::ApiKind;
use access_core::{HostId, ResourceRef, Timestamp};
use serde_json::Value;

use crate::caller::Call;
use crate::error::Result;
use crate::service::AuthService;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    Updated,
    Deleted,
}

pub(super) struct Changed<'a> {
    pub(super) change: Change,
    pub(super) value: Option<&'a Value>,
    pub(super) expires: Option<Timestamp>,
}

impl Changed<'_> {
    pub(super) fn deleted() -> Self {
        Self { change: Change::Deleted, value: None, expires: None }
    }
}

impl AuthService {
    /// Writes a change down. What hosts tell of themselves, every few minutes, is no change.
    pub(super) async fn tell(
        &self,
        call: &Call,
        kind: ApiKind,
        name: &str,
        changed: Changed<'_>,
    ) -> Result<()> {
        if call.host().is_some() {
            return Ok(());
        }
        let event = event(call, kind, name, &changed);
        Ok(self.inner.audit.accept(event, Durability::Synced).await?)
    }

    pub(super) async fn tell_released(
        &self,
        call: &Call,
        resource: &ResourceRef,
        host: &HostId,
    ) -> Result<()> {
        let event = ResourceRelease {
            actor: call.actor(),
            kind: resource.kind.as_str().into(),
            name: resource.name.as_str().into(),
            host_id: host.as_str().into(),
        };
        Ok(self.inner.audit.accept(event.into(), Durability::Synced).await?)
    }
}

fn event(call: &Call, kind: ApiKind, name: &str, changed: &Changed<'_>) -> Event {
    let actor = call.actor();
    let expires = changed.expires;
    let spec = |field: &str| changed.value.and_then(|value| value.get("spec")?.get(field));
    let roles = || {
        let roles = spec("roles").and_then(Value::as_array).into_iter().flatten();
        roles.filter_map(Value::as_str).collect()
    };
    let name = name.into();
    match (kind, changed.change) {
        (ApiKind::User, Change::Created) => {
            UserCreate { actor, name, roles: roles(), connector: "local".into(), expires }.into()
        }
        (ApiKind::User, Change::Updated) => {
            UserUpdate { actor, name, roles: roles(), connector: "local".into(), expires }.into()
        }
        (ApiKind::User, Change::Deleted) => UserDelete { actor, name }.into(),
        (ApiKind::Role, Change::Created) => RoleCreated { actor, name }.into(),
        (ApiKind::Role, Change::Updated) => RoleUpdated { actor, name }.into(),
        (ApiKind::Role, Change::Deleted) => RoleDeleted { actor, name }.into(),
        (ApiKind::Lock, Change::Created | Change::Updated) => {
            let target = spec("target").and_then(Value::as_object).cloned().unwrap_or_default();
            let message = spec("message").and_then(Value::as_str).map(Into::into);
            LockCreated { actor, name, target: Object(target), message, expires }.into()
        }
        (ApiKind::Lock, Change::Deleted) => LockDeleted { actor, name }.into(),
        (ApiKind::Token, Change::Deleted) => JoinTokenDelete { actor, name }.into(),
        (kind, Change::Created) => {
            ResourceCreate { actor, kind: kind.as_str().into(), name, expires }.into()
        }
        (kind, Change::Updated) => {
            ResourceUpdate { actor, kind: kind.as_str().into(), name, expires }.into()
        }
        (kind, Change::Deleted) => {
            ResourceDelete { actor, kind: kind.as_str().into(), name }.into()
        }
    }
}
