//! Where everything is in the store, and typed rows.
//!
//! | key | what |
//! | --- | --- |
//! | `/cluster/cluster` | the cluster's settings |
//! | `/users/NAME`, `/roles/NAME`, `/locks/NAME`, `/servers/ID` | documents |
//! | `/nodes/NAME`, `/dbs/NAME`, `/apps/NAME`, `/kubes/NAME`, `/desktops/NAME` | resources |
//! | `/tokens/ID`, `/invites/ID`, `/recordings/SESSION` | documents without their secrets |
//! | `/authorities/KIND/CLUSTER` | authorities, their private keys sealed |
//! | `/private/passwords/USER` | Argon2id hashes |
//! | `/private/tickets/tokens/ID`, `/private/tickets/invites/ID` | hashes of tickets |
//! | `/private/recordings/SESSION` | which object a recording is |
//! | `/private/tries/HASH` | logins that failed lately |
//! | `/hosts/ID` | what Auth knows of a host |
//! | `/owners/KIND/NAME` | the host that a resource's name belongs to, or that it is the administrators' |
//! | `/reports/db/NAME/HOST` | what a host tells of a database that administrators registered |
//! | `/writers/ID` | the host that an audit writer belongs to, or that it is the service's own |
//! | `/leases/JOB` | the replica that does what one does for all |

use access_backend::{Backend, Item, Key, NewItem, Revision, UnixMillis, Value};
use access_core::Timestamp;
use access_core::document::{Document, DocumentSpec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// A key from its segments.
pub(crate) fn key<const N: usize>(segments: [&str; N]) -> Result<Key> {
    Ok(Key::from_segments(segments)?)
}

/// A row of a type of our own, which no API carries.
pub(crate) struct Row<T> {
    pub(crate) value: T,
    pub(crate) revision: Revision,
}

/// A document with the revision of its row.
pub(crate) struct Stored<S> {
    pub(crate) document: Document<S>,
    pub(crate) revision: Revision,
}

/// Reads a row of our own.
pub(crate) async fn row<T: DeserializeOwned>(
    backend: &dyn Backend,
    key: &Key,
) -> Result<Option<Row<T>>> {
    let Some(item) = backend.get(key).await? else { return Ok(None) };
    let value =
        serde_json::from_slice(&item.value).map_err(|err| Error::stored(key.as_str(), err))?;
    Ok(Some(Row { value, revision: item.revision }))
}

/// Reads a document. Its metadata tells the row's revision.
pub(crate) async fn document<S: DocumentSpec>(
    backend: &dyn Backend,
    key: &Key,
) -> Result<Option<Stored<S>>> {
    backend.get(key).await?.map(|item| read(&item)).transpose()
}

/// The document in a row.
pub(crate) fn read<S: DocumentSpec>(item: &Item) -> Result<Stored<S>> {
    let mut document = Document::<S>::from_json(&item.value)
        .map_err(|err| Error::stored(item.key.as_str(), err))?;
    document.metadata.revision = Some(item.revision.to_string());
    Ok(Stored { document, revision: item.revision })
}

/// A row of our own, to be written.
pub(crate) fn new_row<T: Serialize>(key: Key, value: &T) -> Result<NewItem> {
    let json = serde_json::to_vec(value).map_err(|err| Error::Internal(err.to_string()))?;
    Ok(NewItem::new(key, Value::new(json)?))
}

/// A document, to be written; it is gone from the store when its metadata says.
pub(crate) fn new_document<S: DocumentSpec>(key: Key, document: &Document<S>) -> Result<NewItem> {
    let expires = document.metadata.expires;
    Ok(expiring(NewItem::new(key, Value::new(bare(document)?)?), expires))
}

/// A document's JSON as it is stored: without its revision, which the row has.
pub(crate) fn bare<S: DocumentSpec>(document: &Document<S>) -> Result<Vec<u8>> {
    let mut metadata = document.metadata.clone();
    metadata.revision = None;
    #[derive(Serialize)]
    struct Form<'a, S> {
        kind: &'static str,
        version: &'static str,
        metadata: access_core::document::Metadata,
        spec: &'a S,
    }
    let form = Form { kind: S::KIND.as_str(), version: S::VERSION, metadata, spec: &document.spec };
    serde_json::to_vec(&form).map_err(|err| Error::Internal(err.to_string()))
}

/// A row that ceases to exist at a moment, if one is given.
pub(crate) fn expiring(item: NewItem, expires: Option<Timestamp>) -> NewItem {
    match expires {
        Some(moment) => item.expires_at(millis(moment)),
        None => item,
    }
}

/// A moment as the store writes it.
pub(crate) fn millis(moment: Timestamp) -> UnixMillis {
    UnixMillis(moment.as_millis())
}

/// The engine's clock, when it is to be the same as the service's: for tests and simulations.
#[derive(Clone)]
pub struct StoreClock(pub std::sync::Arc<dyn access_core::Clock>);

impl std::fmt::Debug for StoreClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreClock")
    }
}

impl access_backend::Clock for StoreClock {
    fn now(&self) -> UnixMillis {
        millis(self.0.now())
    }
}
