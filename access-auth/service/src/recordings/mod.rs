//! Recordings: kept as objects, known by documents.

mod read;
mod upload;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use access_backend::Key;
use access_core::SessionId;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store;

pub(crate) use read::Parts;

/// Which object a recording is. No API carries it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    object: String,
}

/// Recordings in the folder `recordings` of the data directory.
pub(crate) fn local_folder(data_dir: &Path) -> Result<Arc<dyn ObjectStore>> {
    let dir = data_dir.join("recordings");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|err| Error::file(&dir, format!("cannot be made: {err}")))?;
    let store = LocalFileSystem::new_with_prefix(&dir).map_err(|err| Error::file(&dir, err))?;
    Ok(Arc::new(store.with_fsync(true)))
}

fn document_key(session: &SessionId) -> Result<Key> {
    store::key(["recordings", session.as_str()])
}

fn place_key(session: &SessionId) -> Result<Key> {
    store::key(["private", "recordings", session.as_str()])
}

fn failed(err: impl std::fmt::Display) -> Error {
    Error::Recordings(err.to_string())
}
