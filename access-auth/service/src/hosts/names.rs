//! Names of resources: who owns them, and keeps them until an administrator releases them.

use access_backend::{Batch, Condition, Operation};
use access_ca::SanName;
use access_client::types::NameBinding;
use access_core::{HostId, Resource, ResourceKind, ResourceName, ResourceRef, Timestamp};

use super::{FirstSaid, Owner, OwnerRow, owner_key};
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
            match store::row::<OwnerRow>(&*self.inner.storage.backend, &key).await? {
                Some(row) if row.value.host.as_ref() == Some(host) => {
                    batch = batch.when(Condition::revision(key, row.revision));
                }
                Some(row) => return Err(taken(resource, row.value.host.is_none())),
                None if !bound.is_empty() && !bound.iter().any(|name| name.covers(resource)) => {
                    return Err(Error::Denied(format!(
                        "the join token is not for {resource}: it is bound to other names"
                    )));
                }
                None => {
                    let owner = OwnerRow { host: Some(host.clone()), first: None };
                    batch = batch
                        .when(Condition::absent(key.clone()))
                        .then(Operation::Put(store::new_row(key, &owner)?));
                }
            }
        }
        Ok(batch)
    }

    /// Fails when another host's resource has one of a proxy's public names, and adds to a batch that
    /// no node has come to have one: a node's name is a principal of its certificate as it stands.
    pub(crate) async fn keep_apart(
        &self,
        mut batch: Batch,
        host: &HostId,
        public_names: &[SanName],
    ) -> Result<Batch> {
        for public in public_names {
            // What cannot be a resource's name is none.
            let Ok(name) = ResourceName::new(public.to_string()) else { continue };
            for kind in ResourceKind::ALL {
                let resource = ResourceRef { kind, name: name.clone() };
                match self.owner_of(&resource).await? {
                    Some(owner) if owner != Owner::Host(host.clone()) => {
                        return Err(Error::AlreadyExists(format!(
                            "{public} cannot be a proxy's public name: {resource}, of another \
                             host, has that name"
                        )));
                    }
                    None if kind == ResourceKind::Node => {
                        batch = batch.when(Condition::absent(owner_key(&resource)?));
                    }
                    _ => {}
                }
            }
        }
        Ok(batch)
    }

    /// Whom a resource's name belongs to.
    pub(crate) async fn owner_of(&self, resource: &ResourceRef) -> Result<Option<Owner>> {
        let key = owner_key(resource)?;
        let row = store::row::<OwnerRow>(&*self.inner.storage.backend, &key).await?;
        Ok(row.map(|row| row.value.host.map_or(Owner::Administrators, Owner::Host)))
    }

    /// Makes sure that a host says of its resource what it said first, as far as that is kept.
    pub(crate) async fn keep_to_first(&self, resource: &Resource) -> Result<()> {
        let key = owner_key(&resource.id)?;
        let backend = &*self.inner.storage.backend;
        let Some(row) = store::row::<OwnerRow>(backend, &key).await? else { return Ok(()) };
        let said = FirstSaid { admin_user: resource.admin_user.clone() };
        match &row.value.first {
            Some(first) if *first == said => Ok(()),
            Some(first) => {
                let first =
                    first.admin_user.as_ref().map_or("none".into(), |name| format!("{name:?}"));
                Err(Error::Precondition(format!(
                    "spec.admin_user: {} was registered with {first}, and its agent cannot change \
                     that: release the name with `accessctl rm {}`, and start the agent again",
                    resource.id, resource.id
                )))
            }
            None => {
                let row_now = OwnerRow { first: Some(said), ..row.value };
                let batch = Batch::new()
                    .when(Condition::revision(key.clone(), row.revision))
                    .then(Operation::Put(store::new_row(key, &row_now)?));
                backend.batch(batch).await?;
                Ok(())
            }
        }
    }

    /// Takes a name for the administrators, until `expires` if that is given: what has to hold for
    /// that, and what is written.
    pub(crate) async fn take_for_administrators(
        &self,
        resource: &ResourceRef,
        expires: Option<Timestamp>,
    ) -> Result<(Condition, Operation)> {
        let key = owner_key(resource)?;
        let condition = match store::row::<OwnerRow>(&*self.inner.storage.backend, &key).await? {
            Some(row) if row.value.host.is_none() => Condition::revision(key.clone(), row.revision),
            Some(row) => {
                let host = row.value.host.as_ref().map_or("", HostId::as_str);
                return Err(Error::Precondition(format!(
                    "metadata.name: {resource} belongs to host {host}, by the configuration of its \
                     agent: choose another name, or take it out there and release it with \
                     `accessctl rm {resource}`"
                )));
            }
            None => Condition::absent(key.clone()),
        };
        let row =
            store::expiring(store::new_row(key, &OwnerRow { host: None, first: None })?, expires);
        Ok((condition, Operation::Put(row)))
    }
}

fn taken(resource: &ResourceRef, by_administrators: bool) -> Error {
    if by_administrators {
        return Error::AlreadyExists(format!(
            "{resource} was registered by an administrator: choose another name, or have one \
             remove it with `accessctl rm {resource}`"
        ));
    }
    Error::AlreadyExists(format!(
        "{resource} belongs to another host: choose another name, or have an administrator \
         release it with `accessctl rm {resource}`"
    ))
}
