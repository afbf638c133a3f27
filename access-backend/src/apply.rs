//! What each write does, once for all engines of this crate.
//!
//! An operation looks first and writes after: one that is refused has written nothing, so that a group of them can
//! share one transaction.

use std::sync::Arc;

use crate::hub::{Change, position};
use crate::item::expired;
use crate::{Batch, Error, Expect, Item, Key, KeyRange, NewItem, Operation, Revision, UnixMillis};

/// A write.
#[derive(Debug)]
pub(crate) enum Op {
    Create(NewItem),
    Put(NewItem),
    Update(NewItem, Revision),
    Delete(Key),
    DeleteIf(Key, Revision),
    DeleteRange(KeyRange),
    KeepAlive { key: Key, expected: Option<Revision>, expires: UnixMillis },
    Batch(Batch),
    Sweep { limit: usize },
}

/// What a write answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Revision(Revision),
    Count(u64),
    Done,
}

impl Outcome {
    /// The error of an engine that answered another question than was asked.
    pub(crate) fn unexpected(self) -> Error {
        Error::unavailable(format!("the engine answered {self:?} to another question"))
    }
}

/// What is known of a row before it is written.
pub(crate) struct Held {
    pub(crate) expires: Option<UnixMillis>,
    pub(crate) revision: Revision,
}

/// The rows of an engine, within a transaction. Expired rows are among them.
pub(crate) trait Rows {
    fn held(&mut self, key: &Key) -> Result<Option<Held>, Error>;
    fn read(&mut self, key: &Key) -> Result<Option<Item>, Error>;
    fn write(&mut self, item: &Item, seq: u64) -> Result<(), Error>;
    fn remove(&mut self, key: &Key, seq: u64) -> Result<(), Error>;
    fn keys_in(&mut self, range: &KeyRange) -> Result<Vec<(Key, Option<UnixMillis>)>, Error>;
    /// The rows that expired first, at most `limit`.
    fn expired(&mut self, now: UnixMillis, limit: usize) -> Result<Vec<Key>, Error>;
}

/// Runs operations against rows, numbers the changes and remembers them for the watchers.
pub(crate) struct Applier<'a, R> {
    pub(crate) rows: &'a mut R,
    pub(crate) now: UnixMillis,
    /// The number of the last change.
    pub(crate) seq: u64,
    pub(crate) changes: Vec<Arc<Change>>,
}

impl<R: Rows> Applier<'_, R> {
    pub(crate) fn apply(&mut self, op: &Op) -> Result<Outcome, Error> {
        match op {
            Op::Create(item) => {
                if self.live(&item.key)?.is_some() {
                    return Err(Error::AlreadyExists { key: item.key.clone() });
                }
                self.write(item)
            }
            Op::Put(item) => self.write(item),
            Op::Update(item, expected) => {
                self.expect(&item.key, Some(*expected))?;
                self.write(item)
            }
            Op::Delete(key) => {
                self.expect(key, None)?;
                self.remove(key)
            }
            Op::DeleteIf(key, expected) => {
                self.expect(key, Some(*expected))?;
                self.remove(key)
            }
            Op::DeleteRange(range) => self.delete_range(range),
            Op::KeepAlive { key, expected, expires } => {
                self.expect(key, *expected)?;
                let held =
                    self.rows.read(key)?.ok_or_else(|| Error::NotFound { key: key.clone() })?;
                self.write(&NewItem { key: held.key, value: held.value, expires: Some(*expires) })
            }
            Op::Batch(batch) => self.batch(batch),
            Op::Sweep { limit } => self.sweep(*limit),
        }
    }

    fn live(&mut self, key: &Key) -> Result<Option<Revision>, Error> {
        let held = self.rows.held(key)?;
        Ok(held.filter(|held| !expired(held.expires, self.now)).map(|held| held.revision))
    }

    fn expect(&mut self, key: &Key, expected: Option<Revision>) -> Result<(), Error> {
        match (self.live(key)?, expected) {
            (None, _) => Err(Error::NotFound { key: key.clone() }),
            (Some(is), Some(expected)) if is != expected => {
                Err(Error::RevisionMismatch { key: key.clone() })
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, item: &NewItem) -> Result<Outcome, Error> {
        let revision = self.next_revision();
        self.write_as(item, revision)?;
        Ok(Outcome::Revision(revision))
    }

    fn write_as(&mut self, item: &NewItem, revision: Revision) -> Result<(), Error> {
        let NewItem { key, value, expires } = item.clone();
        let item = Item { key, value, expires, revision };
        self.seq += 1;
        self.rows.write(&item, self.seq)?;
        self.changes.push(Arc::new(Change {
            position: position(self.seq),
            key: item.key.clone(),
            item: Some(item),
            mark: 0,
        }));
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Result<Outcome, Error> {
        self.seq += 1;
        self.rows.remove(key, self.seq)?;
        self.changes.push(Arc::new(Change {
            position: position(self.seq),
            key: key.clone(),
            item: None,
            mark: 0,
        }));
        Ok(Outcome::Done)
    }

    fn delete_range(&mut self, range: &KeyRange) -> Result<Outcome, Error> {
        let mut live = 0;
        for (key, expires) in self.rows.keys_in(range)? {
            live += u64::from(!expired(expires, self.now));
            self.remove(&key)?;
        }
        Ok(Outcome::Count(live))
    }

    fn batch(&mut self, batch: &Batch) -> Result<Outcome, Error> {
        batch.validate()?;
        for (index, condition) in batch.conditions.iter().enumerate() {
            let holds = match (condition.expect, self.live(&condition.key)?) {
                (Expect::Absent, is) => is.is_none(),
                (Expect::Present, is) => is.is_some(),
                (Expect::Revision(expected), is) => is == Some(expected),
            };
            if !holds {
                return Err(Error::ConditionFailed { index });
            }
        }
        // All rows of the batch carry the number of its first change. Without a row there may be no change either, and
        // then that number goes to the next write.
        let writes =
            batch.operations.iter().any(|operation| matches!(operation, Operation::Put(_)));
        let revision = if writes { self.next_revision() } else { Revision::from_bits(u128::MAX) };
        for operation in &batch.operations {
            match operation {
                Operation::Put(item) => self.write_as(item, revision)?,
                Operation::Delete(key) => {
                    if self.rows.held(key)?.is_some() {
                        self.remove(key)?;
                    }
                }
            }
        }
        Ok(Outcome::Revision(revision))
    }

    fn sweep(&mut self, limit: usize) -> Result<Outcome, Error> {
        let gone = self.rows.expired(self.now, limit)?;
        for key in &gone {
            self.remove(key)?;
        }
        Ok(Outcome::Count(u64::try_from(gone.len()).unwrap_or(u64::MAX)))
    }

    fn next_revision(&self) -> Revision {
        Revision::from_bits(u128::from(self.seq + 1))
    }
}
