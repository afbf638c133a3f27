//! The trait that an engine implements.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use crate::{
    Batch, Cursor, Error, Item, Key, KeyRange, NewItem, Position, Prefix, Revision, UnixMillis,
    Watch,
};

/// The most rows that one page holds, whatever was asked for.
pub const MAX_PAGE_ITEMS: usize = 1000;

/// A page ends with the row that takes it past this many bytes of values.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// An ordered key-value store. The crate's documentation says what holds for every engine.
///
/// Any operation may fail with [`Error::Closed`] after [`Backend::close`], and with an error of the engine's storage
/// (busy, full, damaged, unavailable) at any time. An operation that answered with a storage error may, after a crash
/// of the process, turn out to have been written; one that answered with a refusal
/// ([`Error::is_refusal`]) was not.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Reads a row; `None` if there is none or it has expired.
    ///
    /// # Errors
    /// Those of the storage.
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error>;

    /// Reads the rows of `range` in key order, at most `limit` of them (between 1 and [`MAX_PAGE_ITEMS`] whatever was
    /// asked) and about [`MAX_PAGE_BYTES`]. Pass [`Page::next`] to go on; each page is consistent in itself.
    ///
    /// # Errors
    /// Those of the storage.
    async fn range(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page, Error>;

    /// The same for a list that may be some seconds old: an engine with copies nearby reads those.
    ///
    /// # Errors
    /// Those of the storage.
    async fn range_lately(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page, Error> {
        self.range(range, limit, after).await
    }

    /// Writes a row that is not there yet.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`].
    async fn create(&self, item: NewItem) -> Result<Revision, Error>;

    /// Writes a row, whether or not it is there.
    ///
    /// # Errors
    /// Those of the storage.
    async fn put(&self, item: NewItem) -> Result<Revision, Error>;

    /// Writes a row if it is still of this revision.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::RevisionMismatch`].
    async fn update(&self, item: NewItem, expected: Revision) -> Result<Revision, Error>;

    /// Deletes a row.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn delete(&self, key: &Key) -> Result<(), Error>;

    /// Deletes a row if it is still of this revision.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::RevisionMismatch`].
    async fn delete_if(&self, key: &Key, expected: Revision) -> Result<(), Error>;

    /// Deletes the rows of `range`, all at once, and says how many live ones there were.
    ///
    /// # Errors
    /// Those of the storage.
    async fn delete_range(&self, range: &KeyRange) -> Result<u64, Error>;

    /// Moves the expiry of a row, if it is still of this revision where one is given.
    ///
    /// # Errors
    /// [`Error::NotFound`] also where the row has expired: what is gone does not come back.
    /// [`Error::RevisionMismatch`].
    async fn keep_alive(
        &self,
        key: &Key,
        expected: Option<Revision>,
        expires: UnixMillis,
    ) -> Result<Revision, Error>;

    /// Applies a batch, all of it or nothing, and answers with the revision that all rows written have; if it writes
    /// none, with one that no row ever has.
    ///
    /// # Errors
    /// [`Error::ConditionFailed`] with the first condition that does not hold, and those of [`Batch::validate`].
    async fn batch(&self, batch: Batch) -> Result<Revision, Error>;

    /// Watches the keys below `prefixes`: from nothing (`None`) with a snapshot first, or from a position.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no prefix.
    async fn watch(&self, prefixes: &[Prefix], from: Option<Position>) -> Result<Watch, Error>;

    /// Deletes up to `limit` expired rows, tells watchers, and says how many there were. Somebody has to call it now and
    /// then, or they stay; reads never depend on it.
    ///
    /// # Errors
    /// Those of the storage.
    async fn sweep(&self, limit: usize) -> Result<usize, Error>;

    /// What this engine is.
    fn capabilities(&self) -> Capabilities;

    /// Makes sure that the engine can answer now.
    ///
    /// # Errors
    /// Why it can't.
    async fn health(&self) -> Result<Health, Error>;

    /// What an administrator wants to know of the store. It may count rows: not for every second.
    ///
    /// # Errors
    /// Those of the storage.
    async fn report(&self) -> Result<Report, Error> {
        Ok(Report::default())
    }

    /// Finishes the writes that were accepted, ends watches with [`Error::Closed`] and lets go of files. Closing twice
    /// is the same as once.
    ///
    /// # Errors
    /// Those of the storage.
    async fn close(&self) -> Result<(), Error>;
}

/// Some rows of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows, in key order.
    pub items: Vec<Item>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// What an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The engine's name: `memory`, `sqlite`.
    pub engine: &'static str,
    /// Whether an acknowledged write survives the end of the process.
    pub durable: bool,
    /// Whether several processes may use the same store at once.
    pub shared: bool,
}

impl Capabilities {
    /// Describes an engine.
    pub const fn new(engine: &'static str, durable: bool, shared: bool) -> Self {
        Self { engine, durable, shared }
    }
}

/// How an engine is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Watches that are open.
    pub watches: usize,
    /// Writes that wait for their turn.
    pub pending_writes: usize,
}

impl Health {
    /// Describes the state of an engine.
    pub const fn new(watches: usize, pending_writes: usize) -> Self {
        Self { watches, pending_writes }
    }
}

/// What an administrator wants to know of a store; `None` for what an engine does not have or does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where it is, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What the engine calls its own version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which version of our tables is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i64>,
    /// Rows that are stored, expired ones that are still there among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How long the shortest question takes, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// How long ago it was certain that watches miss nothing, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed_lag_ms: Option<u64>,
    /// The regions of the database, the primary one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<StoreRegion>,
    /// What the database outlives: `region` or `zone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survival_goal: Option<String>,
    /// For how many days events are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_days: Option<u64>,
}

/// A region of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreRegion {
    /// Its name.
    pub name: String,
    /// Where what has to be decided is decided.
    pub primary: bool,
    /// Where that goes when the primary region is lost.
    pub secondary: bool,
}

/// Reads a whole range, page by page. The pages are read one after another, so that rows that change meanwhile may be
/// seen before or after their change.
///
/// # Errors
/// [`Error::TooLarge`] when there are more than `at_most` rows; those of [`Backend::range`].
pub async fn read_all(
    backend: &dyn Backend,
    range: &KeyRange,
    at_most: usize,
) -> Result<Vec<Item>, Error> {
    read_pages(backend, range, at_most, false).await
}

/// The same for what may be some seconds old: [`Backend::range_lately`].
///
/// # Errors
/// As [`read_all`].
pub async fn read_all_lately(
    backend: &dyn Backend,
    range: &KeyRange,
    at_most: usize,
) -> Result<Vec<Item>, Error> {
    read_pages(backend, range, at_most, true).await
}

async fn read_pages(
    backend: &dyn Backend,
    range: &KeyRange,
    at_most: usize,
    lately: bool,
) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let page = match lately {
            true => backend.range_lately(range, MAX_PAGE_ITEMS, after.as_ref()).await?,
            false => backend.range(range, MAX_PAGE_ITEMS, after.as_ref()).await?,
        };
        items.extend(page.items);
        if items.len() > at_most {
            return Err(Error::TooLarge {
                what: "range in rows",
                size: items.len(),
                limit: at_most,
            });
        }
        match page.next {
            Some(cursor) => after = Some(cursor),
            None => return Ok(items),
        }
    }
}
