//! Resources by the name that clients use.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use access_core::resource::{Resource, ResourceKind, ResourceRef, dns_label};

/// What can be reached: looked up by kind and DNS label.
#[derive(Debug, Default)]
pub struct Directory {
    resources: RwLock<HashMap<(ResourceKind, String), Arc<Resource>>>,
}

impl Directory {
    /// The resource whose name is, or is encoded as, a DNS label.
    pub fn find(&self, kind: ResourceKind, label: &str) -> Option<Arc<Resource>> {
        let resources = self.resources.read().unwrap_or_else(PoisonError::into_inner);
        resources.get(&(kind, label.to_owned())).cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn put(&self, resource: Resource) {
        let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
        resources.insert(key(&resource.id), Arc::new(resource));
    }

    pub(super) fn remove(&self, resource: &ResourceRef) {
        let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
        resources.remove(&key(resource));
    }

    pub(super) fn retain(&self, keep: impl Fn(&ResourceRef) -> bool) {
        let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
        resources.retain(|_, resource| keep(&resource.id));
    }
}

fn key(resource: &ResourceRef) -> (ResourceKind, String) {
    (resource.kind, dns_label(&resource.name))
}
