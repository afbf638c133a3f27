//! Hosts that say again and again that they are up.
//!
//! Each document of a host lives some minutes, and its host tells of it every minute. Writing each time what is there
//! already would be most of what a large cluster writes, and every watch would hear of it. So a document that says
//! nothing new is left as it is, as long as it outlives the next two times that its host is heard of; and those that
//! have to be renewed go out together, many in one write.
//!
//! Hosts that came up together would be renewed together for ever. So how soon a host is renewed for the first time is
//! drawn, which keeps it apart from the others from then on; and of what comes together all the same only so many go out
//! each second, unless ever more wait.
//!
//! Nothing here is needed to be right: a replica that has just started, or that never heard of a host, looks at what the
//! document says, and writes when that is something else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_backend::{
    Backend, Batch, Condition, Error, Item, Key, NewItem, Operation, Revision, UnixMillis,
};
use access_core::{HostId, Timestamp};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::secrets;

/// Renewals that wait; whoever comes then waits for room.
const QUEUE: usize = 4096;
/// Renewals of one write.
const GROUP: usize = 250;
/// The bytes of one write, about.
const GROUP_BYTES: usize = 2 * 1024 * 1024;
/// How long renewals are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// Renewals of that time, or a tenth of those that wait, if that is more.
const PACE: usize = 20;
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
    /// It is renewed when it lives no longer than that, for the first time.
    first: Duration,
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
        known.host == *host
            && known.said == said
            && known.revision == row.revision
            && left(row.expires, now) > known.first.max(pause * 2)
    }

    /// Remembers what a host said and was written, to live until `expires`.
    pub(crate) fn note(
        &self,
        key: &Key,
        host: &HostId,
        said: Said,
        revision: Revision,
        expires: Option<UnixMillis>,
        now: Timestamp,
    ) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let first = match all.get(key) {
            Some(known) if known.host == *host => Duration::ZERO,
            // Not in its last fifth, where all of those would be renewed that are heard of seldom.
            _ => left(expires, now).mul_f64(0.2 + 0.8 * chance()),
        };
        let known = Known { host: host.clone(), said, revision, heard: now, first };
        insert(&mut all, key, known);
    }

    /// Takes a document over that another replica wrote, if it lives for a good while still: a quarter of what it would
    /// if it was renewed. It says what its host says, and belongs to it.
    pub(crate) fn adopt(
        &self,
        row: &Item,
        host: &HostId,
        said: Said,
        renewed: Option<UnixMillis>,
        now: Timestamp,
    ) -> bool {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&row.key).is_some_and(|known| known.revision == row.revision);
        if known || left(row.expires, now) < left(renewed, now) / 4 {
            return false;
        }
        // Whoever wrote it has seen to it that it is apart from others.
        let (host, revision, first) = (host.clone(), row.revision, Duration::ZERO);
        insert(&mut all, &row.key, Known { host, said, revision, heard: now, first });
        true
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
        let most = PACE.max(jobs.len() / 10).min(GROUP);
        while group.len() < most && bytes < GROUP_BYTES {
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
        // A group that was full early has its time all the same; who closes has none.
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = closing.cancelled() => {}
        }
        write(&*backend, &mut group).await;
    }
}

fn insert(all: &mut HashMap<Key, Known>, key: &Key, known: Known) {
    if all.len() >= MOST {
        all.clear();
    }
    all.insert(key.clone(), known);
}

/// How long what expires then still lives.
fn left(expires: Option<UnixMillis>, now: Timestamp) -> Duration {
    let millis = expires.map_or(i64::MAX, |at| at.0.saturating_sub(now.as_millis()));
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// Between nothing and one.
fn chance() -> f64 {
    let draw = u32::from_be_bytes(secrets::random().unwrap_or_default());
    f64::from(draw) / f64::from(u32::MAX)
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
