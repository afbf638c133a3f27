//! How the engine behaves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Clock, SystemClock};

/// How a [`Sqlite`](crate::Sqlite) store behaves.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database file. It is made where there is none, and so is the directory that it is in.
    pub path: PathBuf,
    /// What decides about expiry.
    pub clock: Arc<dyn Clock>,
    /// How long events are kept, for [`report`](crate::Backend::report) to tell: they are deleted by
    /// [`delete_before`](crate::EventStore::delete_before).
    pub event_ttl: Option<Duration>,
    /// How many changes a watch may be behind before it is reset.
    pub watch_buffer: usize,
    /// How many changes, about, are kept in the file for watches that resume, also after a restart.
    pub history: usize,
    /// How many reads run at once; as many snapshots for watches run beside them.
    pub readers: usize,
    /// How many writes share one commit at most.
    pub group: usize,
    /// How many pages of 4 KiB the write-ahead log holds before it is folded into the file.
    pub checkpoint_pages: u32,
}

impl SqliteOptions {
    /// The file at `path`, the machine's clock, 4,096 changes for each watch and 16,384 to resume
    /// from, 4 readers, 256 writes a commit, a log of 1,000 pages.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            clock: Arc::new(SystemClock),
            event_ttl: None,
            watch_buffer: 4096,
            history: 16 * 1024,
            readers: 4,
            group: 256,
            checkpoint_pages: 1000,
        }
    }
}
