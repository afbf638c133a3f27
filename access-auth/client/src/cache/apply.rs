//! From a document of the watch to the part of the cache that it changes.

use std::collections::{BTreeMap, HashSet};

use access_core::identity::{TrustStore, TrustedAuthority};
use access_core::policy::{ApiKind, PolicyBuilder, PolicySnapshot};
use access_core::resource::{Resource, ResourceKind, ResourceRef};
use access_core::role::RoleDocument;
use access_core::{ResourceName, RoleName, UserName};
use tracing::warn;

use super::Cache;
use crate::proto;
use crate::types::{
    AuthorityDocument, ClusterConfigDocument, LockDocument, UserDocument, read_served,
};

/// Collects a run of changes and then applies them at once.
///
/// While a snapshot comes in, the old policy stays in force; [`Batch::commit`] replaces it.
pub(super) struct Batch {
    policy: PolicyBuilder,
    policy_changed: bool,
    authorities: BTreeMap<String, TrustedAuthority>,
    authorities_changed: bool,
    resources: Vec<Change>,
    /// Names seen in a snapshot; what is in the directory and not here is gone.
    snapshot_resources: Option<HashSet<ResourceRef>>,
}

enum Change {
    Put(Resource),
    Delete(ResourceRef),
}

impl Batch {
    /// Starts from nothing: a snapshot follows.
    pub(super) fn snapshot() -> Self {
        Self {
            policy: PolicySnapshot::builder(),
            policy_changed: true,
            authorities: BTreeMap::new(),
            authorities_changed: false,
            resources: Vec::new(),
            snapshot_resources: Some(HashSet::new()),
        }
    }

    /// Starts from what the cache holds: changes follow.
    pub(super) fn changes(cache: &Cache, authorities: BTreeMap<String, TrustedAuthority>) -> Self {
        Self {
            policy: cache.policy.snapshot().to_builder(),
            policy_changed: false,
            authorities,
            authorities_changed: false,
            resources: Vec::new(),
            snapshot_resources: None,
        }
    }

    /// Takes in a document. One that cannot be read is a denial, never ignored: an unreadable
    /// role denies whoever holds it, an unreadable user is locked out, an unreadable lock is an
    /// error of the whole watch.
    pub(super) fn put(&mut self, document: &proto::Document) -> Result<(), String> {
        match document.kind.as_str() {
            "role" => self.put_role(document)?,
            "user" => self.put_user(document)?,
            "lock" => {
                let lock = LockDocument::from_json(&document.json)
                    .map_err(|err| format!("lock {}: {err}", document.name))?;
                self.edit(|policy| policy.lock(&document.name, lock.spec));
            }
            "cluster_config" => {
                let config = ClusterConfigDocument::from_json(&document.json)
                    .map_err(|err| format!("cluster_config: {err}"))?;
                self.edit(|policy| policy.settings(config.spec.settings));
            }
            "authority" => {
                let authority = AuthorityDocument::from_json(&document.json)
                    .map_err(|err| err.to_string())
                    .and_then(|document| {
                        TrustedAuthority::try_from(&document.spec).map_err(|err| err.to_string())
                    })
                    .map_err(|err| format!("authority {}: {err}", document.name))?;
                self.authorities.insert(document.name.clone(), authority);
                self.authorities_changed = true;
            }
            kind if resource_kind(kind).is_some() => self.put_resource(document),
            other => warn!("the watch sent a document of kind {other:?}, which was not asked for"),
        }
        Ok(())
    }

    /// Takes in that a document is gone.
    pub(super) fn delete(&mut self, document: &proto::DocumentRef) {
        match document.kind.as_str() {
            "role" => {
                if let Ok(name) = RoleName::new(&document.name) {
                    self.edit(|policy| policy.remove_role(&name));
                }
            }
            "user" => {
                if let Ok(name) = UserName::new(&document.name) {
                    self.edit(|policy| policy.remove_user(&name));
                }
            }
            "lock" => self.edit(|policy| policy.remove_lock(&document.name)),
            "authority" => {
                self.authorities_changed |= self.authorities.remove(&document.name).is_some();
            }
            kind => {
                if let Some(kind) = resource_kind(kind)
                    && let Ok(name) = ResourceName::new(&document.name)
                {
                    self.resources.push(Change::Delete(ResourceRef { kind, name }));
                }
            }
        }
    }

    /// Puts everything in force and gives back the authorities, for the next batch.
    pub(super) fn commit(self, cache: &Cache) -> BTreeMap<String, TrustedAuthority> {
        if let Some(seen) = self.snapshot_resources {
            cache.directory.retain(|resource| seen.contains(resource));
        }
        for change in self.resources {
            match change {
                Change::Put(resource) => cache.directory.put(resource),
                Change::Delete(resource) => cache.directory.remove(&resource),
            }
        }
        if self.authorities_changed {
            let cluster = cache.trust.load().cluster().clone();
            match TrustStore::new(cluster, self.authorities.values().cloned()) {
                Ok(store) => cache.trust.replace(store),
                Err(err) => warn!("the new authorities cannot be used, the old stay: {err}"),
            }
        }
        if self.policy_changed {
            cache.policy.replace(self.policy.build());
        }
        self.authorities
    }

    fn put_role(&mut self, document: &proto::Document) -> Result<(), String> {
        match RoleDocument::from_json(&document.json) {
            Ok(role) => self.edit(|policy| policy.role(&role)),
            Err(err) => {
                let name = RoleName::new(&document.name).map_err(|err| err.to_string())?;
                warn!("role {name} cannot be read, whoever holds it is denied: {err}");
                self.edit(|policy| policy.unreadable_role(&name, err.to_string()));
            }
        }
        Ok(())
    }

    fn put_user(&mut self, document: &proto::Document) -> Result<(), String> {
        let name = UserName::new(&document.name).map_err(|err| err.to_string())?;
        let state = match UserDocument::from_json(&document.json) {
            Ok(user) => user.spec.state(),
            Err(err) => {
                warn!("user {name} cannot be read and is locked out: {err}");
                access_core::policy::UserState { locked: true, ..Default::default() }
            }
        };
        self.edit(|policy| policy.user(name, state));
        Ok(())
    }

    fn put_resource(&mut self, document: &proto::Document) {
        let kind = resource_kind(&document.kind).map(ApiKind::of_resource);
        let Some(kind) = kind else { return };
        match read_served(kind, &document.json) {
            Ok((resource, _)) => {
                if let Some(seen) = &mut self.snapshot_resources {
                    seen.insert(resource.id.clone());
                }
                self.resources.push(Change::Put(resource));
            }
            // It cannot be reached then, which is a denial already.
            Err(err) => warn!("{kind} {} cannot be read: {err}", document.name),
        }
    }

    fn edit(&mut self, edit: impl FnOnce(PolicyBuilder) -> PolicyBuilder) {
        let policy = std::mem::replace(&mut self.policy, PolicySnapshot::builder());
        self.policy = edit(policy);
        self.policy_changed = true;
    }
}

/// The kind of resource that documents of a kind register, if they do.
fn resource_kind(kind: &str) -> Option<ResourceKind> {
    kind.parse().ok()
}
