//! Names of resources: who owns them, and keeps them until an administrator releases them.

use access_backend::{Batch, Condition, Operation};
use access_client::types::NameBinding;
use access_core::{HostId, ResourceRef};

use super::{Owner, owner_key};
use crate::error::{Error, Result};
use crate::service::AuthService;
use crate::store;

impl AuthService {
    /// Adds to a batch that a host owns these resources: those that it owns already, and those
    /// that nobody owns and its binding allows.
    pub(crate) async fn claim(
        &self,
        mut batch: Batch,
        host: &HostId,
        bound: &[NameBinding],
        resources: &[ResourceRef],
    ) -> Result<Batch> {
        for resource in resources {
            let key = owner_key(resource)?;
            match store::row::<Owner>(&*self.inner.storage.backend, &key).await? {
                Some(row) if row.value.host == *host => {
                    batch = batch.when(Condition::revision(key, row.revision));
                }
                Some(_) => {
                    return Err(Error::AlreadyExists(format!(
                        "{resource} belongs to another host: choose another name, or have an \
                         administrator release it with `accessctl rm {resource}`"
                    )));
                }
                None if !bound.is_empty() && !bound.iter().any(|name| name.covers(resource)) => {
                    return Err(Error::Denied(format!(
                        "the join token is not for {resource}: it is bound to other names"
                    )));
                }
                None => {
                    let owner = Owner { host: host.clone() };
                    batch = batch
                        .when(Condition::absent(key.clone()))
                        .then(Operation::Put(store::new_row(key, &owner)?));
                }
            }
        }
        Ok(batch)
    }

    /// The host that a resource's name belongs to.
    pub(crate) async fn owner_of(&self, resource: &ResourceRef) -> Result<Option<HostId>> {
        let key = owner_key(resource)?;
        let row = store::row::<Owner>(&*self.inner.storage.backend, &key).await?;
        Ok(row.map(|row| row.value.host))
    }
}
