//! Whose each audit writer is: events are stored for its owner alone. A host that comes with
//! another's is told that it exists already, and begins a new one.

use access_backend::{Backend, Batch, Condition, EventStore, Operation};
use access_core::{HostId, WriterId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store;

/// The owner of an audit writer.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Owner {
    /// The first host that came with it.
    Host(HostId),
    /// The service itself: one of its replicas, in one run.
    Auth,
}

/// Makes a new writer the service's own, before its first event, so that no host ever comes by it.
pub(super) async fn register_own(backend: &dyn Backend, writer: &WriterId) -> Result<()> {
    let key = key(writer)?;
    let row = store::new_row(key.clone(), &Owner::Auth)?;
    let batch = Batch::new().when(Condition::absent(key)).then(Operation::Put(row));
    backend.batch(batch).await?;
    Ok(())
}

/// Makes sure that a writer is this host's, or makes it so when it is nobody's and has no events
/// yet.
pub(super) async fn claim(
    backend: &dyn Backend,
    events: &dyn EventStore,
    writer: &WriterId,
    host: &HostId,
) -> Result<()> {
    let key = key(writer)?;
    if let Some(row) = store::row::<Owner>(backend, &key).await? {
        return check(&row.value, host);
    }
    if events.last_seq(writer.as_str()).await?.is_some() {
        return Err(Error::AlreadyExists(
            "this audit writer has events and belongs to no host: begin a new one".into(),
        ));
    }
    let row = store::new_row(key.clone(), &Owner::Host(host.clone()))?;
    let batch = Batch::new().when(Condition::absent(key.clone())).then(Operation::Put(row));
    match backend.batch(batch).await {
        Ok(_) => Ok(()),
        Err(access_backend::Error::ConditionFailed { .. }) => {
            match store::row::<Owner>(backend, &key).await? {
                Some(row) => check(&row.value, host),
                None => Err(Error::Conflict("the audit writer was removed: try again".into())),
            }
        }
        Err(err) => Err(err.into()),
    }
}

fn key(writer: &WriterId) -> Result<access_backend::Key> {
    store::key(["writers", writer.as_str()])
}

fn check(owner: &Owner, host: &HostId) -> Result<()> {
    match owner {
        Owner::Host(owner) if owner == host => Ok(()),
        Owner::Host(_) => Err(Error::AlreadyExists(
            "this audit writer belongs to another host: begin a new one".into(),
        )),
        Owner::Auth => {
            Err(Error::AlreadyExists("this audit writer is the Auth Service's own".into()))
        }
    }
}
