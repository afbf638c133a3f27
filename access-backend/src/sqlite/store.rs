//! The traits, each operation handed to the writer or to a reader.

use async_trait::async_trait;

use super::readers::Purpose;
use super::writer::Work;
use super::{Sqlite, events, read, schema, watch};
use crate::apply::{Op, Outcome};
use crate::{
    Backend, Batch, Capabilities, Cursor, Error, EventPage, EventQuery, EventStore, Health, Item,
    Key, KeyRange, NewItem, Page, Position, Prefix, Report, Revision, StoredEvent, UnixMillis,
    Watch, blocks, validate_events,
};

#[async_trait]
impl Backend for Sqlite {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        let (key, path, now) = (key.clone(), self.path.clone(), self.clock.now());
        let read =
            self.readers.run(Purpose::Read, move |connection| read::get(connection, &path, &key));
        Ok(read.await?.filter(|item| !item.is_expired(now)))
    }

    async fn range(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page, Error> {
        let rest = after.map_or_else(|| range.clone(), |cursor| range.after(cursor.key().as_str()));
        let (path, now) = (self.path.clone(), self.clock.now());
        self.readers
            .run(Purpose::Read, move |connection| read::page(connection, &path, &rest, limit, now))
            .await
    }

    async fn create(&self, item: NewItem) -> Result<Revision, Error> {
        self.revision(Op::Create(item)).await
    }

    async fn put(&self, item: NewItem) -> Result<Revision, Error> {
        self.revision(Op::Put(item)).await
    }

    async fn update(&self, item: NewItem, expected: Revision) -> Result<Revision, Error> {
        self.revision(Op::Update(item, expected)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.write(Work::Rows(Op::Delete(key.clone()))).await.map(drop)
    }

    async fn delete_if(&self, key: &Key, expected: Revision) -> Result<(), Error> {
        self.write(Work::Rows(Op::DeleteIf(key.clone(), expected))).await.map(drop)
    }

    async fn delete_range(&self, range: &KeyRange) -> Result<u64, Error> {
        self.count(Work::Rows(Op::DeleteRange(range.clone()))).await
    }

    async fn keep_alive(
        &self,
        key: &Key,
        expected: Option<Revision>,
        expires: UnixMillis,
    ) -> Result<Revision, Error> {
        self.revision(Op::KeepAlive { key: key.clone(), expected, expires }).await
    }

    async fn batch(&self, batch: Batch) -> Result<Revision, Error> {
        self.revision(Op::Batch(batch)).await
    }

    async fn watch(&self, prefixes: &[Prefix], from: Option<Position>) -> Result<Watch, Error> {
        self.check_writable()?;
        let prefixes = Prefix::disjoint(prefixes);
        let subscription = self.hub.subscribe(&prefixes)?;
        let request =
            watch::Request { path: self.path.clone(), prefixes, from, now: self.clock.now() };
        Ok(watch::start(&self.readers, request, subscription))
    }

    async fn sweep(&self, limit: usize) -> Result<usize, Error> {
        Ok(small(self.count(Work::Rows(Op::Sweep { limit })).await?))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new("sqlite", true, false)
    }

    async fn report(&self) -> Result<Report, Error> {
        let (path, days) = (self.path.clone(), self.event_days);
        self.readers
            .run(Purpose::Read, move |connection| {
                let begun = std::time::Instant::now();
                read::last_seq(connection, &path)?;
                let latency = begun.elapsed();
                Ok(Report {
                    place: Some(path.display().to_string()),
                    version: Some(rusqlite::version().to_owned()),
                    schema_version: Some(schema::version(connection, &path)?),
                    rows: Some(read::count(connection, &path)?),
                    latency_us: u64::try_from(latency.as_micros()).ok(),
                    event_days: days,
                    ..Report::default()
                })
            })
            .await
    }

    async fn health(&self) -> Result<Health, Error> {
        let jobs = self.jobs()?;
        if jobs.is_closed() {
            return Err(Error::unavailable("the writer has stopped; the log says why"));
        }
        let waiting = jobs.max_capacity() - jobs.capacity();
        drop(jobs);
        let path = self.path.clone();
        self.readers
            .run(Purpose::Read, move |connection| read::last_seq(connection, &path))
            .await?;
        Ok(Health::new(self.hub.watches(), waiting))
    }

    async fn close(&self) -> Result<(), Error> {
        self.shut().await
    }
}

#[async_trait]
impl EventStore for Sqlite {
    async fn append(&self, events: Vec<StoredEvent>) -> Result<usize, Error> {
        validate_events(&events)?;
        let (events, blocks) = blocks::packed(events).await?;
        Ok(small(self.count(Work::AppendEvents(events, blocks)).await?))
    }

    async fn search(&self, query: &EventQuery) -> Result<EventPage, Error> {
        let limit = query.validate()?;
        let (query, path) = (query.clone(), self.path.clone());
        self.readers
            .run(Purpose::Read, move |connection| events::search(connection, &path, &query, limit))
            .await
    }

    async fn last_seq(&self, writer: &str) -> Result<Option<u64>, Error> {
        let (writer, path) = (writer.to_owned(), self.path.clone());
        self.readers
            .run(Purpose::Read, move |connection| events::last_seq(connection, &path, &writer))
            .await
    }

    async fn delete_before(&self, time: UnixMillis, limit: usize) -> Result<usize, Error> {
        Ok(small(self.count(Work::DeleteEvents { before: time, limit }).await?))
    }
}

impl Sqlite {
    async fn revision(&self, op: Op) -> Result<Revision, Error> {
        match self.write(Work::Rows(op)).await? {
            Outcome::Revision(revision) => Ok(revision),
            other => Err(other.unexpected()),
        }
    }

    async fn count(&self, work: Work) -> Result<u64, Error> {
        match self.write(work).await? {
            Outcome::Count(count) => Ok(count),
            other => Err(other.unexpected()),
        }
    }
}

fn small(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
