//! The handle, and the traits, each operation handed to the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use access_backend::engine::{Hub, packed};
use access_backend::{
    Backend, Batch, Capabilities, Cursor, Error, EventPage, EventQuery, EventStore, Health, Item,
    Key, KeyRange, NewItem, Page, Position, Prefix, Report, Revision, StoredEvent, UnixMillis,
    Watch, validate_events,
};
use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::conn_string::FEED_SETTING;
use crate::errors::{Failure, unavailable};
use crate::feed::{Feed, cockroachdb, postgres};
use crate::pool::{Dialer, Pool, jittered};
use crate::store::{Counters, Shared};
use crate::write::{Op, Outcome};
use crate::{Engine, SqlOptions, Stats, events, inspect, schema};

/// A feed that is silent for longer is a fault.
const SILENCE: Duration = Duration::from_secs(30);

/// A store in PostgreSQL or CockroachDB, which other processes may have open as well.
///
/// Dropping it ends its watches, and its connections when the last of them is done.
pub struct Sql {
    shared: Arc<Shared>,
}

impl Sql {
    /// Connects, makes the tables or brings them to this version, and begins to follow the changes.
    ///
    /// Waits for a database that does not answer for three times [`SqlOptions::patience`].
    ///
    /// # Errors
    /// [`Error::Setting`] with what to change, [`Error::NewerSchema`], [`Error::Unavailable`].
    pub async fn open(options: SqlOptions) -> Result<Self, Error> {
        let engine = options.engine;
        let dialer = Dialer::new(engine, options.conn.clone());
        let feed_conn = match &options.feed_conn {
            Some(conn) => conn.clone().of_setting(FEED_SETTING),
            None => options.conn.clone(),
        };
        let feed_dialer = Arc::new(Dialer::new(engine, feed_conn));
        let pool = Pool::new(dialer, options.patience)?;
        schema::prepare(&pool, &options).await?;
        let shared = Arc::new(Shared {
            snapshots: Semaphore::new((pool.most() / 2).max(1)),
            hub: Hub::new(options.watch_buffer),
            feed: Feed::new(options.history),
            counters: Counters::default(),
            closing: watch::Sender::new(false),
            pool,
            options,
        });
        shared.check_clock().await?;
        let deadline = Instant::now() + shared.options.patience;
        loop {
            match shared.follow(feed_dialer.clone()).await {
                Ok(()) => break,
                Err(Failure::Final(error)) => return Err(error),
                Err(failure) if Instant::now() > deadline => return Err(failure.into_error()),
                Err(_) => tokio::time::sleep(jittered(Duration::from_millis(200))).await,
            }
        }
        Ok(Self { shared })
    }

    /// What the store went through since it was opened.
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }

    /// Who else uses the database, as far as this user may see: a line for each of their connections. Those of this
    /// process are known by their name, which has to be its own: [`ConnString::named`](crate::ConnString::named).
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn others(&self) -> Result<Vec<String>, Error> {
        inspect::others(&self.shared).await
    }

    async fn revision(&self, op: Op) -> Result<Revision, Error> {
        match self.shared.write(&op).await? {
            (Outcome::Failed(index), _) => Err(Error::ConditionFailed { index }),
            (_, revision) => Ok(revision),
        }
    }

    async fn count(&self, op: Op) -> Result<u64, Error> {
        match self.shared.write(&op).await?.0 {
            Outcome::Rows(count) | Outcome::Cleared(count) => Ok(count),
            Outcome::Failed(index) => Err(Error::ConditionFailed { index }),
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.shared.pool.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }
}

impl Shared {
    /// Gets the feed going.
    async fn follow(self: &Arc<Self>, dialer: Arc<Dialer>) -> Result<(), Failure> {
        let store = Arc::downgrade(self);
        match self.options.engine {
            Engine::Postgres => {
                let running = postgres::Running::start(self, dialer).await?;
                tokio::spawn(running.run(store));
            }
            Engine::CockroachDb => {
                let running = cockroachdb::Running::start(self, dialer).await?;
                tokio::spawn(running.run(store));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Sql {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        self.shared.get(key).await
    }

    async fn range(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page, Error> {
        self.shared.page(range, limit, after, false).await
    }

    async fn range_lately(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page, Error> {
        self.shared.page(range, limit, after, true).await
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
        self.revision(Op::Delete(key.clone())).await.map(drop)
    }

    async fn delete_if(&self, key: &Key, expected: Revision) -> Result<(), Error> {
        self.revision(Op::DeleteIf(key.clone(), expected)).await.map(drop)
    }

    async fn delete_range(&self, range: &KeyRange) -> Result<u64, Error> {
        self.count(Op::DeleteRange(range.clone())).await
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
        self.check_open()?;
        batch.validate()?;
        self.revision(Op::Batch(batch)).await
    }

    async fn watch(&self, prefixes: &[Prefix], from: Option<Position>) -> Result<Watch, Error> {
        let prefixes = Prefix::disjoint(prefixes);
        let subscription = self.shared.hub.subscribe(&prefixes)?;
        let request = crate::watch::Request { prefixes, from };
        Ok(crate::watch::start(&self.shared, request, subscription))
    }

    async fn sweep(&self, limit: usize) -> Result<usize, Error> {
        let count = self.count(Op::Sweep { limit }).await?;
        if self.shared.options.engine == Engine::Postgres && count < limit as u64 {
            self.shared.trim().await?;
        }
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(self.shared.options.engine.name(), true, true)
    }

    async fn health(&self) -> Result<Health, Error> {
        self.check_open()?;
        self.shared.check_clock().await?;
        let silence = self.shared.feed.silence();
        if silence > SILENCE {
            let seconds = silence.as_secs();
            return Err(unavailable(&format!(
                "the change feed has said nothing for {seconds} s; the log says why"
            )));
        }
        Ok(Health::new(self.shared.hub.watches(), self.shared.pool.waiting()))
    }

    async fn report(&self) -> Result<Report, Error> {
        self.check_open()?;
        inspect::report(&self.shared).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.shared.shut();
        Ok(())
    }
}

#[async_trait]
impl EventStore for Sql {
    async fn append(&self, events: Vec<StoredEvent>) -> Result<usize, Error> {
        validate_events(&events)?;
        if events.is_empty() {
            return self.check_open().map(|()| 0);
        }
        let (events, blocks) = packed(events).await?;
        if let Some(blocks) = blocks
            && events::append_blocks(&self.shared, &blocks).await?
        {
            return Ok(events.len());
        }
        events::append(&self.shared, &events).await
    }

    async fn search(&self, query: &EventQuery) -> Result<EventPage, Error> {
        let limit = query.validate()?;
        events::search(&self.shared, query, limit).await
    }

    async fn last_seq(&self, writer: &str) -> Result<Option<u64>, Error> {
        events::last_seq(&self.shared, writer).await
    }

    async fn delete_before(&self, time: UnixMillis, limit: usize) -> Result<usize, Error> {
        events::delete_before(&self.shared, time, limit).await
    }
}

impl Shared {
    fn shut(&self) {
        self.hub.close();
        self.closing.send_replace(true);
        self.pool.close();
        self.feed.wake.notify_one();
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.shared.shut();
    }
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql")
            .field("engine", &self.shared.options.engine)
            .field("conn", &self.shared.options.conn)
            .finish_non_exhaustive()
    }
}
