//! Recordings: kept as objects, known by documents.

mod read;
#[cfg(feature = "s3")]
mod s3;
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

/// The store of recordings that a URL names: `file:///FOLDER`, or `s3://BUCKET/PREFIX` with the
/// feature `s3`, whose keys, region and endpoint come from the environment as AWS's own tools have
/// them.
///
/// # Errors
/// [`Error::Setup`] when the URL names none that is known here, [`Error::File`].
pub fn recordings_at(url: &str) -> Result<Arc<dyn ObjectStore>> {
    if let Some(folder) = url.strip_prefix("file://") {
        return folder_store(Path::new(folder));
    }
    #[cfg(feature = "s3")]
    if url.starts_with("s3://") {
        return s3::open(url);
    }
    Err(Error::Setup(format!(
        "recordings at {url}: use file:///FOLDER{}",
        if cfg!(feature = "s3") { " or s3://BUCKET/PREFIX" } else { "" }
    )))
}

/// Recordings in the folder `recordings` of the data directory.
pub(crate) fn local_folder(data_dir: &Path) -> Result<Arc<dyn ObjectStore>> {
    folder_store(&data_dir.join("recordings"))
}

fn folder_store(dir: &Path) -> Result<Arc<dyn ObjectStore>> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|err| Error::file(dir, format!("cannot be made: {err}")))?;
    let store = LocalFileSystem::new_with_prefix(dir).map_err(|err| Error::file(dir, err))?;
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
