//! The log as JSON lines: a file a day, for whoever reads files.
//!
//! The store is what counts; this is a copy of it in the order of arrival. An event that was
//! stored just before a crash may be missing here, and one may be here twice: its `uid` tells.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use access_core::Timestamp;

use crate::error::{Error, Result};

/// Appends to `log/events-DATE.jsonl` in the data directory.
#[derive(Clone)]
pub(crate) struct JsonLines {
    dir: PathBuf,
    open: Arc<Mutex<Option<(String, File)>>>,
}

impl JsonLines {
    /// Makes the folder.
    pub(crate) fn new(data_dir: &Path) -> Result<Self> {
        let dir = data_dir.join("log");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|err| Error::file(&dir, format!("cannot be made: {err}")))?;
        Ok(Self { dir, open: Arc::default() })
    }

    /// Appends lines that arrived at a moment. What fails is logged: nothing is lost by it.
    pub(crate) async fn append(&self, lines: Vec<bytes::Bytes>, now: Timestamp) {
        if lines.is_empty() {
            return;
        }
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.write(&lines, now)).await;
        if let Ok(Err(error)) = written {
            metrics::counter!("access_audit_jsonl_errors_total").increment(1);
            tracing::error!(dir = %self.dir.display(), %error, "the log's JSON lines cannot be written");
        }
    }

    fn write(&self, lines: &[bytes::Bytes], now: Timestamp) -> std::io::Result<()> {
        let date: String = now.to_string().chars().take_while(|c| *c != 'T').collect();
        let mut text = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = match open.take() {
            Some((of, file)) if of == date => (of, file),
            _ => {
                let path = self.dir.join(format!("events-{date}.jsonl"));
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
                (date, file)
            }
        };
        // One write of whole lines. A file that failed is opened anew the next time.
        current.1.write_all(&text)?;
        *open = Some(current);
        Ok(())
    }
}
