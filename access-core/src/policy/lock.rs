//! Locks: a stop that holds at once, whatever roles and certificates say.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::action::{Action, ApiKind};
use super::reason::Reason;
use crate::document::DocumentSpec;
use crate::identity::{Identity, Subject};
use crate::ids::{HostId, Login, RoleName, UserName};
use crate::resource::{Resource, ResourceKind, ResourceRef};
use crate::time::Timestamp;

/// A lock, as it is stored and printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Whom or what it stops.
    pub target: LockTarget,
    /// Why, for administrators.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it ceases to hold; never when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl DocumentSpec for Lock {
    const KIND: ApiKind = ApiKind::Lock;
}

/// Whom or what a lock stops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockTarget {
    /// A user or bot.
    User(UserName),
    /// Everybody who holds a role.
    Role(RoleName),
    /// Sessions as an account, on whatever target.
    Login(Login),
    /// A node by name, or a host by id: nothing that it serves can be reached, and its own
    /// certificate is void.
    Node(String),
    /// Any resource: `db/roach`. What else its host serves goes on.
    Resource(ResourceRef),
    /// What was logged in to with a second factor's device.
    MfaDevice(String),
    /// What an access request lent roles to.
    AccessRequest(String),
}

impl std::fmt::Display for LockTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user}"),
            Self::Role(role) => write!(f, "role {role}"),
            Self::Login(login) => write!(f, "login {login}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Resource(resource) => write!(f, "{resource}"),
            Self::MfaDevice(device) => write!(f, "MFA device {device}"),
            Self::AccessRequest(id) => write!(f, "access request {id}"),
        }
    }
}

/// Locks by what they stop.
#[derive(Clone, Debug, Default)]
pub(super) struct LockIndex {
    by_name: HashMap<Box<str>, Lock>,
    users: Stops<UserName>,
    roles: Stops<RoleName>,
    logins: Stops<Login>,
    nodes: Stops<String>,
    resources: Stops<ResourceRef>,
    mfa_devices: Stops<String>,
    access_requests: Stops<String>,
}

type Stops<K> = HashMap<K, Vec<Lock>>;

impl LockIndex {
    pub(super) fn insert(&mut self, name: &str, lock: Lock) {
        self.by_name.insert(name.into(), lock);
        self.rebuild();
    }

    pub(super) fn remove(&mut self, name: &str) {
        if self.by_name.remove(name).is_some() {
            self.rebuild();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn rebuild(&mut self) {
        fn add<K: Eq + std::hash::Hash + Clone>(stops: &mut Stops<K>, key: &K, lock: &Lock) {
            stops.entry(key.clone()).or_default().push(lock.clone());
        }
        let mut index = Self { by_name: std::mem::take(&mut self.by_name), ..Self::default() };
        for lock in index.by_name.values() {
            match &lock.target {
                LockTarget::User(user) => add(&mut index.users, user, lock),
                LockTarget::Role(role) => add(&mut index.roles, role, lock),
                LockTarget::Login(login) => add(&mut index.logins, login, lock),
                LockTarget::Node(node) => add(&mut index.nodes, node, lock),
                LockTarget::Resource(resource) => add(&mut index.resources, resource, lock),
                LockTarget::MfaDevice(device) => add(&mut index.mfa_devices, device, lock),
                LockTarget::AccessRequest(id) => add(&mut index.access_requests, id, lock),
            }
        }
        *self = index;
    }

    /// The lock on somebody, wherever they go.
    pub(super) fn on_identity(&self, identity: &Identity, now: Timestamp) -> Result<(), Reason> {
        if self.by_name.is_empty() {
            return Ok(());
        }
        match &identity.subject {
            Subject::User { name } | Subject::Bot { name } => held(&self.users, name, now)?,
            Subject::Host { id, resources, .. } => {
                held(&self.nodes, id.as_str(), now)?;
                // A lock on a resource stops that. Were it to void the certificate of its host,
                // the host would not hear of it, nor go on with what else it serves.
                for node in resources.iter().filter(|one| one.kind == ResourceKind::Node) {
                    held(&self.nodes, node.name.as_str(), now)?;
                }
            }
        }
        if let Some(mfa) = &identity.mfa {
            held(&self.mfa_devices, mfa.device.as_str(), now)?;
        }
        identity.access_requests.iter().try_for_each(|id| held(&self.access_requests, id, now))
    }

    /// The lock on whoever holds a role.
    pub(super) fn on_role(&self, role: &RoleName, now: Timestamp) -> Result<(), Reason> {
        if self.roles.is_empty() { Ok(()) } else { held(&self.roles, role, now) }
    }

    /// The lock on what is asked for.
    pub(super) fn on_target(
        &self,
        action: &Action,
        resource: Option<&Resource>,
        now: Timestamp,
    ) -> Result<(), Reason> {
        if self.by_name.is_empty() {
            return Ok(());
        }
        if let Some(login) = action.login() {
            held(&self.logins, login, now)?;
        }
        match resource {
            Some(resource) => self.on_resource(&resource.id, &resource.host, now),
            None => Ok(()),
        }
    }

    fn on_resource(
        &self,
        resource: &ResourceRef,
        host: &HostId,
        now: Timestamp,
    ) -> Result<(), Reason> {
        held(&self.resources, resource, now)?;
        held(&self.nodes, host.as_str(), now)?;
        if resource.kind == ResourceKind::Node {
            held(&self.nodes, resource.name.as_str(), now)?;
        }
        Ok(())
    }
}

fn held<K, Q>(stops: &Stops<K>, key: &Q, now: Timestamp) -> Result<(), Reason>
where
    K: std::borrow::Borrow<Q> + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
{
    let locks = stops.get(key).into_iter().flatten();
    match locks.into_iter().find(|lock| lock.expires.is_none_or(|expires| now < expires)) {
        Some(lock) => {
            Err(Reason::Locked { target: lock.target.clone(), message: lock.message.clone() })
        }
        None => Ok(()),
    }
}
