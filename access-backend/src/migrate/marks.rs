//! The rows that say that a store may not be used: it is being filled, or it was moved away.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Backend, Condition, Error, Key, NewItem, Revision, Value};

/// The folder of the marks; nothing below it is copied.
pub const MARKS: &str = "/backend/";

/// A store that is being filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copying {
    /// The same as in the other store's mark.
    pub(super) id: String,
    /// Whose rows they are.
    pub(super) of: String,
    /// The other store.
    pub(super) from: String,
}

/// A store that was moved away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    /// The same as in the other store's mark.
    pub(super) id: String,
    /// The other store.
    pub(super) to: String,
}

pub(super) struct Mark<T> {
    pub(super) value: T,
    pub(super) revision: Revision,
}

pub(super) fn copying_key() -> Result<Key, Error> {
    Key::from_segments(["backend", "copying"])
}

pub(super) fn moved_key() -> Result<Key, Error> {
    Key::from_segments(["backend", "moved"])
}

pub(super) async fn copying(backend: &dyn Backend) -> Result<Option<Mark<Copying>>, Error> {
    read(backend, &copying_key()?).await
}

pub(super) async fn moved(backend: &dyn Backend) -> Result<Option<Mark<Moved>>, Error> {
    read(backend, &moved_key()?).await
}

pub(super) fn written<T: Serialize>(key: Key, mark: &T) -> Result<NewItem, Error> {
    let json = serde_json::to_vec(mark)
        .map_err(|error| Error::invalid("mark", error.to_string().to_lowercase()))?;
    Ok(NewItem::new(key, Value::new(json)?))
}

async fn read<T: DeserializeOwned>(
    backend: &dyn Backend,
    key: &Key,
) -> Result<Option<Mark<T>>, Error> {
    let Some(item) = backend.get(key).await? else { return Ok(None) };
    let value = serde_json::from_slice(&item.value)
        .map_err(|error| Error::invalid("mark", format!("{key} cannot be read: {error}")))?;
    Ok(Some(Mark { value, revision: item.revision }))
}

/// Makes sure that a store is not one that is being filled, or that was moved away. Whoever opens a store to use it
/// asks this first.
///
/// # Errors
/// [`Error::HalfCopied`], [`Error::Moved`], those of the storage.
pub async fn check_usable(backend: &dyn Backend) -> Result<(), Error> {
    if let Some(mark) = copying(backend).await? {
        return Err(Error::HalfCopied { from: mark.value.from });
    }
    match moved(backend).await? {
        Some(mark) => Err(Error::Moved { to: mark.value.to }),
        None => Ok(()),
    }
}

/// What has to hold when somebody begins to use an empty store: that nobody is filling it.
///
/// # Errors
/// None that can happen.
pub fn unused() -> Result<Condition, Error> {
    Ok(Condition::absent(copying_key()?))
}
