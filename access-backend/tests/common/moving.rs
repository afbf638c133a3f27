//! A store with something of everything, and an engine that breaks off.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use access_backend::migrate::{Identity, MigrateOptions, Migration, Moving, Place, check_usable};
use access_backend::{
    Backend, Batch, Capabilities, Clock, Cursor, Error, EventPage, EventQuery, EventStore, Health,
    Item, Key, KeyRange, ManualClock, NewItem, Page, Position, Prefix, Revision, StoredEvent,
    UnixMillis, Value, Watch,
};
use async_trait::async_trait;

pub const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
pub const ROWS: usize = 1200;
pub const EVENTS: u64 = 2500;

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW))
}

pub fn key(path: &str) -> Key {
    Key::parse(path).unwrap()
}

pub fn item(path: &str, value: &str) -> NewItem {
    NewItem::new(key(path), Value::new(value.to_owned()).unwrap())
}

pub fn event(writer: &str, seq: u64, time: i64) -> StoredEvent {
    StoredEvent {
        writer: writer.into(),
        seq,
        time: UnixMillis(NOW.0 + time),
        name: if seq.is_multiple_of(2) { "session.start" } else { "exec" }.into(),
        user: seq.is_multiple_of(3).then(|| "daniëlle".into()),
        json: format!("{{\"seq\":{seq},\"text\":\"\\u0000 ü\"}}").into(),
    }
}

pub fn options(clock: &Arc<ManualClock>) -> MigrateOptions {
    let read = |value: &[u8]| String::from_utf8(value.to_vec()).ok();
    let identity = Identity { key: key("/cluster/cluster"), read };
    MigrateOptions {
        writers: Some(Prefix::parse("/writers").unwrap()),
        clock: clock.clone() as Arc<dyn Clock>,
        ..MigrateOptions::new(identity)
    }
}

/// Fills a store with rows that last, that expire later, that expire soon and that have expired, and with events.
pub async fn fill(place: &Place, name: &str) {
    place.backend.put(item("/cluster/cluster", name)).await.unwrap();
    place.backend.put(item("/writers/spool", "w")).await.unwrap();
    place.backend.put(item("/writers/quiet", "w")).await.unwrap();
    for number in 0..ROWS {
        let row = item(&format!("/nodes/{number:05}"), &"x".repeat(number % 900));
        let expires = match number % 5 {
            0 => Some(NOW.0 + 60_000),
            1 => Some(NOW.0 + 86_400_000),
            2 => Some(i64::MAX),
            _ => None,
        };
        let row = NewItem { expires: expires.map(UnixMillis), ..row };
        place.backend.put(row).await.unwrap();
    }
    place.backend.put(item("/gone", "x").expires_at(NOW)).await.unwrap();
    // In several orders of time, and several at one.
    let all: Vec<_> = (1..=EVENTS).map(|seq| event("spool", seq, (seq / 3) as i64)).collect();
    for part in all.chunks(1000) {
        place.events.append(part.to_vec()).await.unwrap();
    }
    place.events.append((1..=5).map(|seq| event("other", seq, -5)).collect()).await.unwrap();
    // One of which nothing is left but its number.
    place.events.append(vec![event("quiet", 7, -1000)]).await.unwrap();
    assert_eq!(place.events.delete_before(UnixMillis(NOW.0 - 500), 10).await.unwrap(), 1);
}

/// Moves a store and looks at what came of it.
pub async fn move_it(from: &Place, to: &Place, clock: &Arc<ManualClock>) -> Moving {
    let migration = Migration::begin(from, to, options(clock)).await.unwrap();
    assert!(matches!(check_usable(&*to.backend).await, Err(Error::HalfCopied { .. })));
    check_usable(&*from.backend).await.unwrap();
    migration.copy(from, None).await.unwrap();
    // It is in use meanwhile.
    from.backend.put(item("/nodes/00003", "changed")).await.unwrap();
    from.backend.put(item("/nodes/late", "new")).await.unwrap();
    from.backend.delete(&key("/nodes/00004")).await.unwrap();
    // An event that was under way for long.
    from.events.append(vec![event("late", 1, 1)]).await.unwrap();
    let pass = migration.copy(from, Some(NOW)).await.unwrap();
    assert_eq!((pass.rows_written, pass.rows_deleted, pass.events_appended), (2, 1, 1));
    from.events.append(vec![event("later", 1, 2)]).await.unwrap();
    let moving = migration.finish(from).await.unwrap();
    same(from, to).await;
    assert_eq!(moving.rows.count, ROWS as u64 + 3);
    assert_eq!(moving.events.count, EVENTS + 5 + 2);
    check_usable(&*to.backend).await.unwrap();
    assert!(
        matches!(check_usable(&*from.backend).await, Err(Error::Moved { to: name }) if name == to.name)
    );
    moving
}

/// Everything of one is in the other, looked at without the code that copies.
pub async fn same(from: &Place, to: &Place) {
    let rows = async |place: &Place| {
        let rows =
            access_backend::read_all(&*place.backend, &KeyRange::all(), 100_000).await.unwrap();
        let rows = rows.into_iter().filter(|row| !row.key.as_str().starts_with("/backend/"));
        let far = |at: UnixMillis| UnixMillis(at.0.min(253_402_300_800_000));
        rows.map(|row| (row.key, row.value, row.expires.map(far))).collect::<Vec<_>>()
    };
    assert_eq!(rows(from).await, rows(to).await);
    let events = async |place: &Place| {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let query = EventQuery { limit: 700, after, ..EventQuery::default() };
            let page = place.events.search(&query).await.unwrap();
            all.extend(page.events);
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    };
    assert_eq!(events(from).await, events(to).await);
    for writer in ["spool", "other", "quiet", "nobody"] {
        let numbers = (from.events.last_seq(writer).await, to.events.last_seq(writer).await);
        assert_eq!(numbers.0, numbers.1, "{writer}");
    }
    assert_eq!(to.events.last_seq("quiet").await.unwrap(), Some(7));
}

/// Breaks off at each of the writes in turn, until one attempt comes through.
pub async fn crash_everywhere(from: &Place, to: &Place, clock: &Arc<ManualClock>) {
    let mut crashes = 0;
    for writes in 0.. {
        let fuse = Arc::new(AtomicU64::new(writes % 4));
        let fused = Place {
            backend: Arc::new(Fused { inner: to.backend.clone(), fuse: fuse.clone() }),
            events: Arc::new(FusedEvents { inner: to.events.clone(), fuse: fuse.clone() }),
            name: to.name.clone(),
        };
        let attempt = async {
            let migration = Migration::begin(from, &fused, options(clock)).await?;
            assert_eq!(migration.resumed(), writes > 1, "{writes}");
            migration.copy(from, None).await?;
            migration.finish(from).await
        };
        // Never may both be used.
        let usable = async || {
            let from = check_usable(&*from.backend).await.is_ok();
            let to = check_usable(&*to.backend).await.is_ok()
                && to.backend.get(&key("/cluster/cluster")).await.unwrap().is_some();
            (from, to)
        };
        match attempt.await {
            Ok(_) => {
                assert_eq!(usable().await, (false, true));
                break;
            }
            Err(error) => {
                assert!(error.to_string().contains("cut off"), "{error}");
                assert!(!usable().await.1);
                crashes += 1;
            }
        }
        assert!(writes < 200, "it never comes through");
    }
    assert!(crashes > 5, "{crashes}");
    same(from, to).await;
}

fn burn(fuse: &AtomicU64) -> Result<(), Error> {
    let left = fuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    left.map(drop).map_err(|_| Error::Unavailable { detail: "cut off".into() })
}

/// A store that breaks after so many writes.
#[derive(Debug)]
struct Fused {
    inner: Arc<dyn Backend>,
    fuse: Arc<AtomicU64>,
}

#[derive(Debug)]
struct FusedEvents {
    inner: Arc<dyn EventStore>,
    fuse: Arc<AtomicU64>,
}

#[async_trait]
impl Backend for Fused {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        self.inner.get(key).await
    }
    async fn range(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page, Error> {
        self.inner.range(range, limit, after).await
    }
    async fn create(&self, item: NewItem) -> Result<Revision, Error> {
        burn(&self.fuse)?;
        self.inner.create(item).await
    }
    async fn put(&self, item: NewItem) -> Result<Revision, Error> {
        burn(&self.fuse)?;
        self.inner.put(item).await
    }
    async fn update(&self, item: NewItem, expected: Revision) -> Result<Revision, Error> {
        burn(&self.fuse)?;
        self.inner.update(item, expected).await
    }
    async fn delete(&self, key: &Key) -> Result<(), Error> {
        burn(&self.fuse)?;
        self.inner.delete(key).await
    }
    async fn delete_if(&self, key: &Key, expected: Revision) -> Result<(), Error> {
        burn(&self.fuse)?;
        self.inner.delete_if(key, expected).await
    }
    async fn delete_range(&self, range: &KeyRange) -> Result<u64, Error> {
        burn(&self.fuse)?;
        self.inner.delete_range(range).await
    }
    async fn keep_alive(
        &self,
        key: &Key,
        expected: Option<Revision>,
        expires: UnixMillis,
    ) -> Result<Revision, Error> {
        burn(&self.fuse)?;
        self.inner.keep_alive(key, expected, expires).await
    }
    async fn batch(&self, batch: Batch) -> Result<Revision, Error> {
        burn(&self.fuse)?;
        self.inner.batch(batch).await
    }
    async fn watch(&self, prefixes: &[Prefix], from: Option<Position>) -> Result<Watch, Error> {
        self.inner.watch(prefixes, from).await
    }
    async fn sweep(&self, limit: usize) -> Result<usize, Error> {
        self.inner.sweep(limit).await
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn health(&self) -> Result<Health, Error> {
        self.inner.health().await
    }
    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

#[async_trait]
impl EventStore for FusedEvents {
    async fn append(&self, events: Vec<StoredEvent>) -> Result<usize, Error> {
        burn(&self.fuse)?;
        self.inner.append(events).await
    }
    async fn search(&self, query: &EventQuery) -> Result<EventPage, Error> {
        self.inner.search(query).await
    }
    async fn last_seq(&self, writer: &str) -> Result<Option<u64>, Error> {
        self.inner.last_seq(writer).await
    }
    async fn delete_before(&self, time: UnixMillis, limit: usize) -> Result<usize, Error> {
        self.inner.delete_before(time, limit).await
    }
}
