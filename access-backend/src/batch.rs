//! Several writes that happen together, if their conditions hold.

use std::collections::HashSet;

use crate::{Error, Key, NewItem, Revision};

/// The most conditions, and the most operations, of one batch.
pub const MAX_BATCH_ENTRIES: usize = 256;

/// The most bytes of all values of one batch.
pub const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Operations that are applied all or not at all, and only if every condition holds at that moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// What must hold, checked in order before anything is written.
    pub conditions: Vec<Condition>,
    /// What is then written, in order; each key at most once.
    pub operations: Vec<Operation>,
}

/// What a batch demands of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The key that is looked at, whether or not the batch writes it.
    pub key: Key,
    /// What must hold for it.
    pub expect: Expect,
}

/// The state that a [`Condition`] demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no live row.
    Absent,
    /// There is a live row.
    Present,
    /// There is a live row, and it is of this revision.
    Revision(Revision),
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes the row, whether or not there is one.
    Put(NewItem),
    /// Deletes the row, if there is one.
    Delete(Key),
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Adds an operation.
    #[must_use]
    pub fn then(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Checks the bounds; every engine calls this before it looks at anything.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past [`MAX_BATCH_ENTRIES`] or [`MAX_BATCH_BYTES`]; [`Error::Invalid`] where there is no
    /// operation or a key is written twice.
    pub fn validate(&self) -> Result<(), Error> {
        let most = self.conditions.len().max(self.operations.len());
        if most > MAX_BATCH_ENTRIES {
            return Err(Error::TooLarge {
                what: "batch in entries",
                size: most,
                limit: MAX_BATCH_ENTRIES,
            });
        }
        let size = self.operations.iter().map(Operation::value_len).sum();
        if size > MAX_BATCH_BYTES {
            return Err(Error::TooLarge { what: "batch in bytes", size, limit: MAX_BATCH_BYTES });
        }
        if self.operations.is_empty() {
            return Err(Error::invalid("batch", "it has no operation"));
        }
        let mut seen = HashSet::new();
        match self.operations.iter().find(|operation| !seen.insert(operation.key())) {
            Some(twice) => Err(Error::invalid("batch", format!("it writes {} twice", twice.key()))),
            None => Ok(()),
        }
    }
}

impl Condition {
    /// Demands that there is no live row.
    pub fn absent(key: Key) -> Self {
        Self { key, expect: Expect::Absent }
    }

    /// Demands that there is a live row.
    pub fn present(key: Key) -> Self {
        Self { key, expect: Expect::Present }
    }

    /// Demands that there is a live row of this revision.
    pub fn revision(key: Key, revision: Revision) -> Self {
        Self { key, expect: Expect::Revision(revision) }
    }
}

impl Operation {
    /// The key that is written.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(item) => &item.key,
            Self::Delete(key) => key,
        }
    }

    fn value_len(&self) -> usize {
        match self {
            Self::Put(item) => item.value.len(),
            Self::Delete(_) => 0,
        }
    }
}
