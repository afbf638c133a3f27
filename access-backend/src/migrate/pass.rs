//! One pass: both stores are read side by side in their order, and what differs is written to the second.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic;

use bytes::Bytes;

use super::digest::{Digest, Hasher, expiry};
use super::marks::{MARKS, copying_key};
use super::{MigrateOptions, Place};
use crate::{
    Batch, Condition, Cursor, Error, EventCursor, EventOrder, EventQuery, Item, KeyRange,
    MAX_APPEND_EVENTS, MAX_EVENT_PAGE, MAX_PAGE_ITEMS, NewItem, Operation, Revision, StoredEvent,
    UnixMillis,
};

/// What is written in one transaction at most.
const BATCH_ROWS: usize = 250;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Engines delete old events in groups that span an hour at most: what only the second store has of the first's oldest
/// hours, in milliseconds, is what the first has just deleted. It goes by itself.
const RETENTION: i64 = 2 * 3_600_000;

/// What a pass found and did. Of each pair, the first is of the store that is copied and the second of the other, as
/// they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The rows.
    pub rows: (Digest, Digest),
    /// The events, of those that were looked at.
    pub events: (Digest, Digest),
    /// Rows that were written, since they were not there or other ones.
    pub rows_written: u64,
    /// Rows that were deleted, since the first store does not have them.
    pub rows_deleted: u64,
    /// Events that were appended.
    pub events_appended: u64,
    /// Events of the second store that the first does not have.
    pub events_strange: u64,
}

impl Pass {
    /// Whether both were the same already.
    pub fn changed_nothing(&self) -> bool {
        let done =
            self.rows_written + self.rows_deleted + self.events_appended + self.events_strange;
        done == 0 && self.rows.0 == self.rows.1 && self.events.0 == self.events.1
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rows and {} events; {} rows written, {} deleted, {} events appended",
            self.rows.0.count,
            self.events.0.count,
            self.rows_written,
            self.rows_deleted,
            self.events_appended
        )?;
        match self.events_strange {
            0 => Ok(()),
            strange => write!(f, ", {strange} events that are only in the second"),
        }
    }
}

pub(super) struct Work<'a> {
    pub(super) from: &'a Place,
    pub(super) to: &'a Place,
    pub(super) options: &'a MigrateOptions,
    pub(super) mark: Revision,
}

pub(super) async fn run(work: Work<'_>, since: Option<UnixMillis>) -> Result<Pass, Error> {
    work.options.progress.rows.store(0, atomic::Ordering::Relaxed);
    work.options.progress.events.store(0, atomic::Ordering::Relaxed);
    let rows = work.rows().await?;
    let events = work.events(since).await?;
    Ok(Pass {
        rows: rows.digests,
        events: events.digests,
        rows_written: rows.written,
        rows_deleted: rows.deleted,
        events_appended: events.written,
        events_strange: events.deleted,
    })
}

/// What came of one half.
struct Half {
    digests: (Digest, Digest),
    written: u64,
    deleted: u64,
}

impl Work<'_> {
    async fn rows(&self) -> Result<Half, Error> {
        let (mut ours, mut theirs) = (Rows::of(self.from), Rows::of(self.to));
        let mut hashers = (Hasher::new(), Hasher::new());
        let mut writes = Writes { work: self, operations: Vec::new(), bytes: 0 };
        let (mut written, mut deleted) = (0, 0);
        loop {
            let order = match (ours.peek().await?, theirs.peek().await?) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(ours), Some(theirs)) => ours.key.cmp(&theirs.key),
            };
            let mine = if order.is_le() { ours.take() } else { None };
            let other = if order.is_ge() { theirs.take() } else { None };
            // By one moment for both: what expires while it is compared is on no side.
            let now = self.options.clock.now();
            let mine = mine.filter(|item| !item.is_expired(now));
            let other = other.filter(|item| !item.is_expired(now));
            if let Some(item) = &mine {
                hashers.0.row(item);
                self.options.progress.rows.fetch_add(1, atomic::Ordering::Relaxed);
            }
            if let Some(item) = &other {
                hashers.1.row(item);
            }
            match (mine, other) {
                (Some(mine), Some(other))
                    if mine.value == other.value && expiry(&mine) == expiry(&other) => {}
                (Some(Item { key, value, expires, .. }), _) => {
                    writes.push(Operation::Put(NewItem { key, value, expires })).await?;
                    written += 1;
                }
                (None, Some(other)) => {
                    writes.push(Operation::Delete(other.key)).await?;
                    deleted += 1;
                }
                (None, None) => {}
            }
        }
        writes.flush().await?;
        Ok(Half { digests: (hashers.0.finish(), hashers.1.finish()), written, deleted })
    }

    async fn events(&self, since: Option<UnixMillis>) -> Result<Half, Error> {
        let (mut ours, mut theirs) = (Events::of(self.from, since), Events::of(self.to, since));
        let mut leftovers = UnixMillis(i64::MIN);
        if since.is_none() {
            // What the first has deleted for its age is to go from the second too.
            let oldest = ours.peek().await?.map_or(UnixMillis(i64::MAX), |event| event.time);
            while self.to.events.delete_before(oldest, MAX_APPEND_EVENTS).await? > 0 {}
            leftovers = UnixMillis(oldest.0.saturating_add(RETENTION));
        }
        let mut hashers = (Hasher::new(), Hasher::new());
        let (mut written, mut strange) = (0, 0);
        let (mut missing, mut bytes) = (Vec::new(), 0);
        loop {
            let order = match (ours.peek().await?, theirs.peek().await?) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(ours), Some(theirs)) => place(ours).cmp(&place(theirs)),
            };
            let mine = if order.is_le() { ours.take() } else { None };
            let other = if order.is_ge() { theirs.take() } else { None };
            if mine.is_none() && other.as_ref().is_some_and(|other| other.time < leftovers) {
                continue;
            }
            if let Some(event) = &mine {
                hashers.0.event(event);
                self.options.progress.events.fetch_add(1, atomic::Ordering::Relaxed);
            }
            if let Some(event) = &other {
                hashers.1.event(event);
            }
            match (mine, other) {
                (Some(mine), None) => {
                    bytes += mine.json.len();
                    missing.push(mine);
                    if missing.len() >= MAX_APPEND_EVENTS || bytes >= BATCH_BYTES {
                        written += self.append(std::mem::take(&mut missing)).await?;
                        bytes = 0;
                    }
                }
                (Some(mine), Some(other)) if mine == other => {}
                (_, Some(_)) => strange += 1,
                (None, None) => {}
            }
        }
        written += self.append(missing).await?;
        Ok(Half { digests: (hashers.0.finish(), hashers.1.finish()), written, deleted: strange })
    }

    async fn append(&self, events: Vec<StoredEvent>) -> Result<u64, Error> {
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        if count > 0 {
            self.to.events.append(events).await?;
        }
        Ok(count)
    }
}

/// What searches order events by.
fn place(event: &StoredEvent) -> (UnixMillis, &[u8], u64) {
    (event.time, event.writer.as_bytes(), event.seq)
}

/// An event that comes before all others, and holds nothing but a number.
pub(super) fn before_all(writer: &str, seq: u64) -> StoredEvent {
    StoredEvent {
        writer: writer.to_owned(),
        seq,
        time: UnixMillis(i64::MIN / 2),
        name: "moved".into(),
        user: None,
        json: Bytes::from_static(b"{}"),
    }
}

/// Writes that go out together.
struct Writes<'a> {
    work: &'a Work<'a>,
    operations: Vec<Operation>,
    bytes: usize,
}

impl Writes<'_> {
    async fn push(&mut self, operation: Operation) -> Result<(), Error> {
        if let Operation::Put(item) = &operation {
            self.bytes += item.value.len();
        }
        self.operations.push(operation);
        if self.operations.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.operations.is_empty() {
            return Ok(());
        }
        // As long as the target is ours to fill.
        let batch = Batch {
            conditions: vec![Condition::revision(copying_key()?, self.work.mark)],
            operations: std::mem::take(&mut self.operations),
        };
        self.bytes = 0;
        self.work.to.backend.batch(batch).await.map(drop)
    }
}

/// The rows of a store in order, read a page ahead.
struct Rows<'a> {
    place: &'a Place,
    page: VecDeque<Item>,
    after: Option<Cursor>,
    over: bool,
}

impl<'a> Rows<'a> {
    fn of(place: &'a Place) -> Self {
        Self { place, page: VecDeque::new(), after: None, over: false }
    }

    async fn peek(&mut self) -> Result<Option<&Item>, Error> {
        while self.page.is_empty() && !self.over {
            let all = KeyRange::all();
            let page = self.place.backend.range(&all, MAX_PAGE_ITEMS, self.after.as_ref()).await?;
            self.over = page.next.is_none();
            self.after = page.next;
            let kept = page.items.into_iter().filter(|item| !item.key.as_str().starts_with(MARKS));
            self.page.extend(kept);
        }
        Ok(self.page.front())
    }

    fn take(&mut self) -> Option<Item> {
        self.page.pop_front()
    }
}

/// The events of a store in order, read a page ahead.
struct Events<'a> {
    place: &'a Place,
    page: VecDeque<StoredEvent>,
    since: Option<UnixMillis>,
    after: Option<EventCursor>,
    over: bool,
}

impl<'a> Events<'a> {
    fn of(place: &'a Place, since: Option<UnixMillis>) -> Self {
        Self { place, page: VecDeque::new(), since, after: None, over: false }
    }

    async fn peek(&mut self) -> Result<Option<&StoredEvent>, Error> {
        while self.page.is_empty() && !self.over {
            let query = EventQuery {
                from: self.since,
                order: EventOrder::OldestFirst,
                limit: MAX_EVENT_PAGE,
                after: self.after.take(),
                ..EventQuery::default()
            };
            let page = self.place.events.search(&query).await?;
            self.over = page.next.is_none();
            self.after = page.next;
            self.page.extend(page.events);
        }
        Ok(self.page.front())
    }

    fn take(&mut self) -> Option<StoredEvent> {
        self.page.pop_front()
    }
}
