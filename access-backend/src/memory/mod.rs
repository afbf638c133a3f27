//! The memory engine: an ordered map behind one lock. Everything is gone with the process.

mod events;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use futures::stream::{self, StreamExt};

use self::events::EventLog;
use self::state::State;
use crate::apply::{Applier, Op, Outcome};
use crate::hub::{Hub, position};
use crate::{
    Backend, Batch, Capabilities, Clock, Cursor, Error, EventPage, EventQuery, EventStore, Health,
    Item, Key, KeyRange, NewItem, Page, Position, Prefix, Report, Revision, StoredEvent,
    SystemClock, UnixMillis, Watch, WatchEvent, validate_events,
};

/// How a [`Memory`] store behaves.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// What decides about expiry.
    pub clock: Arc<dyn Clock>,
    /// How many changes a watch may be behind before it is reset.
    pub watch_buffer: usize,
    /// How many changes are kept for watches that resume.
    pub history: usize,
}

impl Default for MemoryOptions {
    /// The machine's clock, 4,096 changes for each watch and 8,192 to resume from.
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), watch_buffer: 4096, history: 8192 }
    }
}

/// The memory engine, for tests and for state that may be lost.
#[derive(Debug)]
pub struct Memory {
    shared: Shared,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    hub: Arc<Hub>,
    state: RwLock<State>,
    events: Mutex<EventLog>,
}

impl Memory {
    /// An empty store.
    pub fn new(options: MemoryOptions) -> Self {
        let shared = Shared {
            clock: options.clock,
            hub: Hub::new(options.watch_buffer),
            state: RwLock::new(State::new(options.history)),
            events: Mutex::default(),
        };
        Self { shared }
    }

    fn revision(&self, op: &Op) -> Result<Revision, Error> {
        match self.shared.write(op)? {
            Outcome::Revision(revision) => Ok(revision),
            other => Err(other.unexpected()),
        }
    }

    fn count(&self, op: &Op) -> Result<u64, Error> {
        match self.shared.write(op)? {
            Outcome::Count(count) => Ok(count),
            other => Err(other.unexpected()),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(MemoryOptions::default())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.shared.hub.close();
    }
}

impl Shared {
    fn write(&self, op: &Op) -> Result<Outcome, Error> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.check_open()?;
        let seq = state.last();
        let mut applier =
            Applier { rows: &mut *state, now: self.clock.now(), seq, changes: Vec::new() };
        let outcome = applier.apply(op)?;
        let changes = applier.changes;
        // Under the lock, so that watchers get changes in the order in which they were made.
        self.hub.publish(&changes);
        state.remember(changes);
        Ok(outcome)
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, State>, Error> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.check_open()?;
        Ok(state)
    }

    fn events(&self) -> Result<MutexGuard<'_, EventLog>, Error> {
        drop(self.read()?);
        Ok(self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Backend for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        let now = self.shared.clock.now();
        Ok(self.shared.read()?.get(key).filter(|item| !item.is_expired(now)).cloned())
    }

    async fn range(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page, Error> {
        let now = self.shared.clock.now();
        Ok(self.shared.read()?.page(range, limit, after, now))
    }

    async fn create(&self, item: NewItem) -> Result<Revision, Error> {
        self.revision(&Op::Create(item))
    }

    async fn put(&self, item: NewItem) -> Result<Revision, Error> {
        self.revision(&Op::Put(item))
    }

    async fn update(&self, item: NewItem, expected: Revision) -> Result<Revision, Error> {
        self.revision(&Op::Update(item, expected))
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.shared.write(&Op::Delete(key.clone())).map(drop)
    }

    async fn delete_if(&self, key: &Key, expected: Revision) -> Result<(), Error> {
        self.shared.write(&Op::DeleteIf(key.clone(), expected)).map(drop)
    }

    async fn delete_range(&self, range: &KeyRange) -> Result<u64, Error> {
        self.count(&Op::DeleteRange(range.clone()))
    }

    async fn keep_alive(
        &self,
        key: &Key,
        expected: Option<Revision>,
        expires: UnixMillis,
    ) -> Result<Revision, Error> {
        self.revision(&Op::KeepAlive { key: key.clone(), expected, expires })
    }

    async fn batch(&self, batch: Batch) -> Result<Revision, Error> {
        self.revision(&Op::Batch(batch))
    }

    async fn watch(&self, prefixes: &[Prefix], from: Option<Position>) -> Result<Watch, Error> {
        let prefixes = Prefix::disjoint(prefixes);
        let now = self.shared.clock.now();
        // Writers publish under the write lock: between what is read here and the subscription nothing fits.
        let state = self.shared.read()?;
        let subscription = self.shared.hub.subscribe(&prefixes)?;
        let last = state.last();
        let head: Vec<WatchEvent> = match from {
            None => state.snapshot(&prefixes, now).map(WatchEvent::Put).collect(),
            Some(from) => match state.since(from) {
                Some(changes) => changes
                    .filter(|change| prefixes.iter().any(|prefix| prefix.covers(&change.key)))
                    .map(|change| change.event())
                    .collect(),
                None => return Ok(Watch::new(stream::iter([Ok(WatchEvent::Reset)]))),
            },
        };
        drop(state);
        let head =
            stream::iter(head.into_iter().chain([WatchEvent::Ready(position(last))]).map(Ok));
        Ok(Watch::new(head.chain(subscription.live(position(last)))))
    }

    async fn sweep(&self, limit: usize) -> Result<usize, Error> {
        Ok(usize::try_from(self.count(&Op::Sweep { limit })?).unwrap_or(usize::MAX))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new("memory", false, false)
    }

    async fn report(&self) -> Result<Report, Error> {
        let rows = self.shared.read()?.len();
        Ok(Report { rows: u64::try_from(rows).ok(), ..Report::default() })
    }

    async fn health(&self) -> Result<Health, Error> {
        drop(self.shared.read()?);
        Ok(Health::new(self.shared.hub.watches(), 0))
    }

    async fn close(&self) -> Result<(), Error> {
        let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        state.close();
        self.shared.hub.close();
        Ok(())
    }
}

#[async_trait]
impl EventStore for Memory {
    async fn append(&self, events: Vec<StoredEvent>) -> Result<usize, Error> {
        validate_events(&events)?;
        Ok(self.shared.events()?.append(events))
    }

    async fn search(&self, query: &EventQuery) -> Result<EventPage, Error> {
        let limit = query.validate()?;
        Ok(self.shared.events()?.search(query, limit))
    }

    async fn last_seq(&self, writer: &str) -> Result<Option<u64>, Error> {
        Ok(self.shared.events()?.last_seq(writer))
    }

    async fn delete_before(&self, time: UnixMillis, limit: usize) -> Result<usize, Error> {
        Ok(self.shared.events()?.delete_before(time, limit))
    }
}
