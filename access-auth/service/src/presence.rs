//! Hosts that say again and again that they are up.
//!
//! Each document of a host lives some minutes, and its host tells of it every minute. Writing each time what is there
//! already would be most of what a large cluster writes, and every watch would hear of it. So a document that says
//! nothing new is left as it is, as long as it outlives the next two times that its host is heard of; and those that
//! have to be renewed go out together, many in one write.
//!
//! Nothing here is needed to be right: a replica that has just started, or that never heard of a host, writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_backend::{Backend, Batch, Condition, Error, Item, Key, NewItem, Operation, Revision};
use access_core::{HostId, Timestamp};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Renewals that wait; whoever comes then waits for room.
const QUEUE: usize = 4096;
/// Renewals of one write.
const GROUP: usize = 250;
/// The bytes of one write, about.
const GROUP_BYTES: usize = 2 * 1024 * 1024;
/// How long renewals are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// The most documents that are remembered; past that all of them are written once more.
const MOST: usize = 250_000;

/// What hosts said last.
pub(crate) struct Presence {
    known: Mutex<HashMap<Key, Known>>,
    queue: mpsc::Sender<Renewal>,
}

struct Known {
    host: HostId,
    said: Said,
    revision: Revision,
    heard: Timestamp,
}

/// What a document says, but for when it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said([u8; 32]);

impl Said {
    pub(crate) fn of(document: &Value) -> Self {
        let mut bare = document.clone();
        if let Some(metadata) = bare.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("expires");
            metadata.remove("revision");
        }
        let mut said = [0; 32];
        said.copy_from_slice(digest(&SHA256, bare.to_string().as_bytes()).as_ref());
        Self(said)
    }
}

struct Renewal {
    item: NewItem,
    expected: Revision,
    done: oneshot::Sender<Result<Revision, Error>>,
}

impl Presence {
    /// With the task that writes until it is told to close.
    pub(crate) fn start(
        backend: Arc<dyn Backend>,
        closing: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, jobs) = mpsc::channel(QUEUE);
        (Self { known: Mutex::default(), queue }, write_all(backend, jobs, closing))
    }

    /// Whether a host says nothing new of a document that lives long enough without being written again.
    pub(crate) fn still_there(
        &self,
        host: &HostId,
        said: Said,
        row: &Item,
        now: Timestamp,
    ) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get_mut(&row.key) else { return false };
        let pause = now.since(known.heard);
        known.heard = now;
        let left = row.expires.map_or(i64::MAX, |at| at.0.saturating_sub(now.as_millis()));
        known.host == *host
            && known.said == said
            && known.revision == row.revision
            && u128::try_from(left).is_ok_and(|left| left > pause.as_millis() * 2)
    }

    /// Remembers what a host said and was written.
    pub(crate) fn note(
        &self,
        key: &Key,
        host: &HostId,
        said: Said,
        revision: Revision,
        now: Timestamp,
    ) {
        let known = Known { host: host.clone(), said, revision, heard: now };
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(key.clone(), known);
    }

    /// Forgets what a host said: it has joined anew, perhaps with other labels.
    pub(crate) fn forget(&self, host: &HostId) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, known| known.host != *host);
    }

    /// Writes a document of which only the expiry is new, together with others.
    pub(crate) async fn renew(&self, item: NewItem, expected: Revision) -> Result<Revision, Error> {
        let (done, answer) = oneshot::channel();
        self.queue.send(Renewal { item, expected, done }).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

async fn write_all(
    backend: Arc<dyn Backend>,
    mut jobs: mpsc::Receiver<Renewal>,
    closing: CancellationToken,
) {
    let mut group: Vec<Renewal> = Vec::new();
    loop {
        let first = tokio::select! {
            job = jobs.recv() => job,
            () = closing.cancelled(), if !jobs.is_closed() => {
                jobs.close();
                continue;
            }
        };
        let Some(first) = first else { return };
        let mut bytes = first.item.value.len();
        group.push(first);
        let until = tokio::time::Instant::now() + GATHER;
        while group.len() < GROUP && bytes < GROUP_BYTES {
            match tokio::time::timeout_at(until, jobs.recv()).await {
                Ok(Some(job)) if group.iter().all(|held| held.item.key != job.item.key) => {
                    bytes += job.item.value.len();
                    group.push(job);
                }
                // Two of one document: the second was read before the first was written.
                Ok(Some(job)) => answer(job, Err(Error::ConditionFailed { index: 0 })),
                Ok(None) | Err(_) => break,
            }
        }
        write(&*backend, &mut group).await;
    }
}

/// Writes a group. Those that have changed meanwhile are told so, and the others are written without them.
async fn write(backend: &dyn Backend, group: &mut Vec<Renewal>) {
    while !group.is_empty() {
        let batch = Batch {
            conditions: group
                .iter()
                .map(|job| Condition::revision(job.item.key.clone(), job.expected))
                .collect(),
            operations: group.iter().map(|job| Operation::Put(job.item.clone())).collect(),
        };
        match backend.batch(batch).await {
            Err(Error::ConditionFailed { index }) if index < group.len() => {
                answer(group.swap_remove(index), Err(Error::ConditionFailed { index: 0 }));
            }
            told => {
                metrics::counter!("access_presence_writes_total").increment(1);
                for job in group.drain(..) {
                    answer(job, told.clone());
                }
            }
        }
    }
}

fn answer(job: Renewal, told: Result<Revision, Error>) {
    // Whoever asked may have gone.
    let _gone = job.done.send(told);
}

#[cfg(test)]
mod tests;
