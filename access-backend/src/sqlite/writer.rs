//! The one thread that writes.
//!
//! It commits what has gathered in its queue as a group. An operation that is refused has written nothing and is
//! simply answered; a failure of the storage undoes the group, and then each operation is tried in a transaction of
//! its own, so that the one that can't be written fails alone.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::read::{Changes, Table, last_seq, stored};
use super::{SqliteOptions, errors, events};
use crate::apply::{Applier, Op, Outcome};
use crate::blocks::Block;
use crate::hub::{Hub, random_gap};
use crate::{Clock, Error, Operation, StoredEvent, UnixMillis};

/// A group takes no more operations past this many bytes.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// How long the writer waits for a group to be as large as the last.
const GATHER: Duration = Duration::from_micros(150);

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Work {
    Rows(Op),
    /// And the blocks that were made of them.
    AppendEvents(Vec<StoredEvent>, Option<Vec<Block>>),
    DeleteEvents {
        before: UnixMillis,
        limit: usize,
    },
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Result<Outcome, Error>>,
}

pub(super) struct Writer {
    path: PathBuf,
    connection: Connection,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    group: usize,
    /// The size of the last group.
    gathered: usize,
    history: usize,
    /// The number of the last change.
    seq: u64,
    /// Changes since the log was last trimmed.
    untrimmed: usize,
    lock: File,
}

impl Writer {
    pub(super) fn new(
        options: &SqliteOptions,
        connection: Connection,
        hub: Arc<Hub>,
        lock: File,
    ) -> Result<Self, Error> {
        let last = last_seq(&connection, &options.path)?;
        Ok(Self {
            path: options.path.clone(),
            connection,
            hub,
            clock: options.clock.clone(),
            group: options.group.max(1),
            gathered: 1,
            history: options.history,
            seq: last.saturating_add(random_gap()),
            untrimmed: options.history,
            lock,
        })
    }

    /// Works until the last sender is gone and the queue is empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(self.group);
        while let Some(first) = queue.blocking_recv() {
            self.gather(first, &mut queue, &mut group);
            self.gathered = group.len();
            self.commit(&mut group);
        }
        let Self { path, connection, lock, .. } = self;
        if let Err((_, error)) = connection.close() {
            tracing::warn!(path = %path.display(), %error, "the database did not close well; it is checked when next opened");
        }
        // By name, since a process that was forked off this one may hold the lock too until it has begun.
        if let Err(error) = lock.unlock() {
            tracing::warn!(path = %path.display(), %error, "the lock ends with this process");
        }
    }

    /// Takes what is in the queue, up to the bounds. Those who were just answered together are likely to come back
    /// together: for as many as last time it waits a moment, which costs less than a commit for the first of them.
    fn gather(&self, first: Job, queue: &mut mpsc::Receiver<Job>, group: &mut Vec<Job>) {
        let mut bytes = first.work.bytes();
        group.push(first);
        let mut waiting: Option<Instant> = None;
        while group.len() < self.group && bytes < GROUP_BYTES {
            match queue.try_recv() {
                Ok(next) => {
                    bytes = bytes.saturating_add(next.work.bytes());
                    group.push(next);
                }
                Err(TryRecvError::Empty) if group.len() < self.gathered => {
                    if waiting.get_or_insert_with(Instant::now).elapsed() > GATHER {
                        break;
                    }
                    thread::yield_now();
                }
                Err(_) => break,
            }
        }
    }

    fn commit(&mut self, group: &mut Vec<Job>) {
        match self.transact(group) {
            Ok(outcomes) => {
                for (job, outcome) in group.drain(..).zip(outcomes) {
                    // Whoever asked may have gone.
                    let _gone = job.reply.send(outcome);
                }
            }
            Err(error) if group.len() < 2 => {
                tracing::error!(%error, "a write failed");
                for job in group.drain(..) {
                    let _gone = job.reply.send(Err(error.clone()));
                }
            }
            Err(_) => {
                for job in std::mem::take(group) {
                    self.commit(&mut vec![job]);
                }
            }
        }
    }

    /// Commits the group, and only then shows it to the watchers.
    fn transact(&mut self, group: &[Job]) -> Result<Vec<Result<Outcome, Error>>, Error> {
        let Self { path, connection, clock, .. } = self;
        let sql = errors::sql(path);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&sql)?;
        let mut rows = Table { connection: &transaction, path };
        let mut applier =
            Applier { rows: &mut rows, now: clock.now(), seq: self.seq, changes: Changes::new() };
        let mut outcomes = Vec::with_capacity(group.len());
        for job in group {
            let outcome = match &job.work {
                Work::Rows(op) => applier.apply(op),
                Work::AppendEvents(list, blocks) => {
                    events::append(&transaction, path, list, blocks.as_deref())
                }
                Work::DeleteEvents { before, limit } => {
                    events::delete_before(&transaction, path, *before, *limit)
                }
            };
            match outcome {
                Err(error) if !error.is_refusal() => return Err(error),
                outcome => outcomes.push(outcome),
            }
        }
        let Applier { seq, changes, .. } = applier;
        let mut untrimmed = self.untrimmed.saturating_add(changes.len());
        if untrimmed > self.history / 8 && !changes.is_empty() {
            trim(&transaction, self.history).map_err(&sql)?;
            untrimmed = 0;
        }
        transaction.commit().map_err(&sql)?;
        self.seq = seq;
        self.untrimmed = untrimmed;
        self.hub.publish(&changes);
        Ok(outcomes)
    }
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::Rows(Op::Create(item) | Op::Put(item) | Op::Update(item, _)) => item.value.len(),
            Self::Rows(Op::Batch(batch)) => {
                let len = |operation: &Operation| match operation {
                    Operation::Put(item) => item.value.len(),
                    Operation::Delete(_) => 0,
                };
                batch.operations.iter().map(len).sum()
            }
            Self::AppendEvents(_, Some(blocks)) => {
                blocks.iter().map(|block| block.body.len()).sum()
            }
            Self::AppendEvents(list, None) => list.iter().map(|event| event.json.len()).sum(),
            Self::Rows(_) | Self::DeleteEvents { .. } => 0,
        }
    }
}

/// Forgets all but the last `history` changes.
fn trim(connection: &Connection, history: usize) -> rusqlite::Result<()> {
    let kept = stored(u64::try_from(history).unwrap_or(u64::MAX));
    let floor: Option<i64> = connection
        .prepare_cached("SELECT seq FROM kv_log ORDER BY seq DESC LIMIT 1 OFFSET ?1")?
        .query_row([kept], |row| row.get(0))
        .optional()?;
    if let Some(floor) = floor {
        connection.prepare_cached("DELETE FROM kv_log WHERE seq <= ?1")?.execute([floor])?;
        connection.prepare_cached("UPDATE backend_version SET log_floor = ?1")?.execute([floor])?;
    }
    Ok(())
}
