//! The service's own events: stored and synced before they are accepted, many in one write.

use std::sync::{Arc, Mutex, PoisonError};

use access_core::audit::events::AuditDropped;
use access_core::audit::{
    AuditError, AuditSink, Durability, Event, MAX_EVENT_BYTES, Stamper, Text,
};
use access_core::{Clock, ClusterName, Timestamp, WriterId};
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{JsonLines, writers};
use crate::error::Result;
use crate::limits::{Buckets, Rate};
use crate::options::Storage;
use crate::secrets;

/// Events that wait to be written.
const QUEUE: usize = 1024;
/// Events of one write.
const BATCH: usize = 256;
/// What strangers may have written: beyond that their failures are only counted, so that they
/// cannot fill the store.
const STRANGERS: Rate = Rate::new(500, 1.0);

/// Takes the service's own events. Clones share their queue.
#[derive(Clone)]
pub(crate) struct AuthAudit {
    queue: mpsc::Sender<Job>,
    clock: Arc<dyn Clock>,
    strangers: Arc<Strangers>,
}

struct Job {
    event: Event,
    done: oneshot::Sender<Result<(), AuditError>>,
}

struct Strangers {
    bucket: Buckets<()>,
    dropped: Mutex<Option<Dropped>>,
}

struct Dropped {
    count: u64,
    since: Timestamp,
    last: Text<64>,
}

impl AuthAudit {
    /// A log of a new writer, and the task that writes it until it is told to close and has written
    /// what was handed to it.
    pub(crate) async fn start(
        cluster: ClusterName,
        storage: Storage,
        lines: JsonLines,
        clock: Arc<dyn Clock>,
        closing: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let mut task = Task { cluster, storage, lines, clock: Arc::clone(&clock), stamper: None };
        task.stamper = Some(task.fresh().await?);
        let strangers =
            Arc::new(Strangers { bucket: Buckets::new(STRANGERS), dropped: Mutex::default() });
        Ok((Self { queue, clock, strangers }, task.run(jobs, closing)))
    }

    async fn send(&self, event: Event) -> Result<(), AuditError> {
        let (done, answer) = oneshot::channel();
        self.queue.send(Job { event, done }).await.map_err(|_| AuditError::Closed)?;
        answer.await.map_err(|_| AuditError::Closed)?
    }
}

#[async_trait]
impl AuditSink for AuthAudit {
    async fn accept(&self, event: Event, _: Durability) -> Result<(), AuditError> {
        if event.is_by_stranger() {
            let now = self.clock.now();
            match self.strangers.admit(&event, now) {
                Admitted::No => return Ok(()),
                Admitted::Yes(None) => {}
                Admitted::Yes(Some(dropped)) => self.send(dropped.into()).await?,
            }
        }
        self.send(event).await
    }
}

impl std::fmt::Debug for AuthAudit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthAudit")
    }
}

enum Admitted {
    No,
    Yes(Option<AuditDropped>),
}

impl Strangers {
    fn admit(&self, event: &Event, now: Timestamp) -> Admitted {
        let admitted = self.bucket.take(&(), now).is_ok();
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        if admitted {
            let told = dropped.take();
            return Admitted::Yes(told.map(|Dropped { count, since, last }| AuditDropped {
                dropped: count,
                since,
                most: Some(last),
            }));
        }
        let last: Text<64> = event.name().into();
        match dropped.as_mut() {
            Some(dropped) => dropped.count = dropped.count.saturating_add(1),
            None => *dropped = Some(Dropped { count: 1, since: now, last }),
        }
        Admitted::No
    }
}

struct Task {
    cluster: ClusterName,
    storage: Storage,
    lines: JsonLines,
    clock: Arc<dyn Clock>,
    /// Numbers the events of the present writer; `None` when its numbers can't be relied on.
    stamper: Option<Stamper>,
}

impl Task {
    /// A stamper of a new writer, which is registered as the service's own.
    async fn fresh(&self) -> Result<Stamper> {
        let writer = WriterId::from_random(secrets::random()?);
        writers::register_own(&*self.storage.backend, &writer).await?;
        Ok(Stamper::new(self.cluster.clone(), writer, 1, Arc::clone(&self.clock)))
    }

    async fn run(mut self, mut jobs: mpsc::Receiver<Job>, closing: CancellationToken) {
        loop {
            let first = tokio::select! {
                job = jobs.recv() => job,
                () = closing.cancelled(), if !jobs.is_closed() => {
                    jobs.close();
                    continue;
                }
            };
            let Some(first) = first else { return };
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            self.write(batch).await;
        }
    }

    async fn write(&mut self, batch: Vec<Job>) {
        let mut stamper = match self.stamper.take() {
            Some(stamper) => stamper,
            None => match self.fresh().await {
                Ok(stamper) => stamper,
                Err(error) => {
                    tracing::error!(%error, "audit events cannot be stored: no new writer");
                    metrics::counter!("access_audit_errors_total").increment(1);
                    let answer = AuditError::Unavailable(error.to_string());
                    for job in batch {
                        let _ = job.done.send(Err(answer.clone()));
                    }
                    return;
                }
            },
        };
        let mut rows = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Job { event, done } in batch {
            let envelope = stamper.stamp(event);
            let answer = match super::json_of(&envelope) {
                Ok(json) if json.len() > MAX_EVENT_BYTES => Err(AuditError::TooLarge {
                    name: envelope.event.name().to_owned(),
                    size: json.len(),
                    max: MAX_EVENT_BYTES,
                }),
                Ok(json) => {
                    stamper.commit(&envelope);
                    rows.push(super::stored(&envelope, json));
                    waiting.push(done);
                    continue;
                }
                Err(err) => Err(AuditError::Unavailable(err.to_string())),
            };
            // Whoever asked may have gone away.
            let _ = done.send(answer);
        }
        if rows.is_empty() {
            self.stamper = Some(stamper);
            return;
        }
        let given = rows.len();
        let lines = rows.iter().map(|row| row.json.clone()).collect();
        // Without success the next events have a new writer: these may have been stored all the
        // same, so that their numbers are spent.
        let answer = match self.storage.events.append(rows).await {
            Ok(new) if new == given => {
                self.stamper = Some(stamper);
                Ok(())
            }
            Ok(new) => {
                let writer = stamper.writer();
                tracing::error!(
                    %writer, given, new,
                    "audit events were not stored: others have used the service's own numbers"
                );
                metrics::counter!("access_audit_errors_total").increment(1);
                Err(AuditError::Unavailable("the numbers of events were used by others".into()))
            }
            Err(error) => {
                tracing::error!(%error, "audit events cannot be stored");
                metrics::counter!("access_audit_errors_total").increment(1);
                Err(AuditError::Unavailable(error.to_string()))
            }
        };
        for done in waiting {
            let _ = done.send(answer.clone());
        }
        if answer.is_ok() {
            self.lines.append(lines, self.clock.now()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use access_backend::{EventQuery, EventStore, Memory, StoredEvent};
    use access_core::HostId;
    use access_core::audit::events::UserLogout;
    use access_core::time::ManualClock;

    async fn of(events: &Memory) -> Vec<StoredEvent> {
        let query = EventQuery { limit: 100, ..EventQuery::default() };
        events.search(&query).await.unwrap().events
    }

    #[tokio::test]
    async fn numbers_that_others_used_fail_and_are_left() {
        let memory = Arc::new(Memory::default());
        let dir = tempfile::tempdir().unwrap();
        let closing = CancellationToken::new();
        let (audit, task) = AuthAudit::start(
            ClusterName::new("example.com").unwrap(),
            Storage::from(Arc::clone(&memory)),
            JsonLines::new(dir.path()).unwrap(),
            Arc::new(ManualClock::at(Timestamp::from_secs(1))),
            closing.clone(),
        )
        .await
        .unwrap();
        let task = tokio::spawn(task);
        let tell = async |user: &str| {
            let event = UserLogout { user: user.into(), addr_remote: None };
            audit.accept(event.into(), Durability::Synced).await
        };
        tell("a").await.unwrap();
        let first = of(&memory).await.remove(0);

        // No host comes by the writer through the API.
        let writer = WriterId::new(&first.writer).unwrap();
        let host = HostId::new("h-1").unwrap();
        let refused = writers::claim(&*memory, &*memory, &writer, &host).await.unwrap_err();
        assert!(refused.to_string().contains("own"), "{refused}");

        memory.append(vec![StoredEvent { seq: 2, ..first.clone() }]).await.unwrap();
        assert!(matches!(tell("b").await, Err(AuditError::Unavailable(_))));
        tell("c").await.unwrap();
        let stored = of(&memory).await;
        let last = stored.iter().find(|event| event.user.as_deref() == Some("c")).unwrap();
        assert_ne!(last.writer, first.writer);
        closing.cancel();
        task.await.unwrap();
    }
}
