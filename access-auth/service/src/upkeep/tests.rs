//! Two replicas on one store, under virtual time.

use std::sync::atomic::{AtomicUsize, Ordering};

use access_backend::{
    Backend, EventPage, EventQuery, EventStore, Key, Memory, MemoryOptions, NewItem, StoredEvent,
    UnixMillis, Value,
};
use access_core::Timestamp;
use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
/// More steps than there are to do.
const ALL: usize = 1 << 20;
/// Long enough for whoever waits for nothing.
const SOON: Duration = Duration::from_millis(10);

/// The time that Tokio tells.
#[derive(Debug)]
struct Ticking(Instant);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_767_323_045).plus(self.0.elapsed())
    }
    fn sleep_until(&self, moment: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(sleep(moment.since(self.now())))
    }
}

/// The events as one replica sees them: so many steps are let through, and then no more.
#[derive(Debug)]
struct Gated {
    inner: Arc<Memory>,
    gate: Semaphore,
    steps: AtomicUsize,
}

impl Gated {
    fn steps(&self) -> usize {
        self.steps.load(Ordering::SeqCst)
    }
}

type Told<T> = std::result::Result<T, Error>;

#[async_trait]
impl EventStore for Gated {
    async fn append(&self, events: Vec<StoredEvent>) -> Told<usize> {
        self.inner.append(events).await
    }
    async fn search(&self, query: &EventQuery) -> Told<EventPage> {
        self.inner.search(query).await
    }
    async fn last_seq(&self, writer: &str) -> Told<Option<u64>> {
        self.inner.last_seq(writer).await
    }
    async fn delete_before(&self, time: UnixMillis, limit: usize) -> Told<usize> {
        self.gate.acquire().await.unwrap().forget();
        self.steps.fetch_add(1, Ordering::SeqCst);
        self.inner.delete_before(time, limit).await
    }
}

struct World {
    store: Arc<Memory>,
    clock: Arc<Ticking>,
}

impl World {
    /// A store with rows that have expired, and events of which four steps are old.
    async fn new() -> Self {
        let clock = Arc::new(Ticking(Instant::now()));
        let options = MemoryOptions {
            clock: Arc::new(StoreClock(clock.clone())),
            ..MemoryOptions::default()
        };
        let store = Arc::new(Memory::new(options));
        for number in 0..600 {
            let key = Key::parse(&format!("/old/{number}")).unwrap();
            let row = NewItem::new(key, Value::new("x").unwrap()).expires_at(UnixMillis(1));
            store.put(row).await.unwrap();
        }
        let now = store::millis(clock.now());
        let event = |seq: u64, time| StoredEvent {
            writer: "w".into(),
            seq,
            time,
            name: "n".into(),
            user: None,
            json: "{}".into(),
        };
        let old = (1..=1000).map(|seq| event(seq, now.minus(DAY * 2)));
        for chunk in old.chain([event(1001, now)]).collect::<Vec<_>>().chunks(500) {
            store.append(chunk.to_vec()).await.unwrap();
        }
        Self { store, clock }
    }

    fn replica(&self, name: &str, steps: usize) -> (Arc<Gated>, CancellationToken, JoinHandle<()>) {
        let (inner, gate) = (self.store.clone(), Semaphore::new(steps));
        let events = Arc::new(Gated { inner, gate, steps: AtomicUsize::new(0) });
        let storage = Storage { backend: self.store.clone(), events: events.clone() };
        let upkeep = Upkeep { keep_events: Some(DAY), ..Upkeep::default() };
        let keeper = Keeper::new(storage, self.clock.clone(), upkeep, name).unwrap();
        let closing = CancellationToken::new();
        let task = tokio::spawn(keeper.run(closing.clone()));
        (events, closing, task)
    }

    async fn holder(&self) -> Option<String> {
        let row = self.store.get(&Key::parse("/leases/upkeep").unwrap()).await.unwrap()?;
        Some(String::from_utf8(row.value.to_vec()).unwrap())
    }

    /// Events that are left.
    async fn events(&self) -> usize {
        let all = EventQuery { limit: 1000, ..EventQuery::default() };
        self.store.search(&all).await.unwrap().events.len()
    }

    /// Rows that are left, the lease's aside.
    async fn rows(&self) -> u64 {
        self.store.report().await.unwrap().rows.unwrap() - u64::from(self.holder().await.is_some())
    }
}

#[tokio::test(start_paused = true)]
async fn one_does_it_and_the_other_goes_on_when_that_is_killed() {
    let world = World::new().await;
    // The one stops in the middle, between two steps.
    let (mine, _, one) = world.replica("one", 2);
    sleep(SOON).await;
    let (theirs, _, _other) = world.replica("other", ALL);
    sleep(LEASE * 3).await;
    assert_eq!((mine.steps(), theirs.steps(), world.rows().await), (2, 0, 0));
    assert_eq!(
        world.holder().await.as_deref(),
        Some("one"),
        "it is renewed in the middle of a step"
    );
    // Killed: nothing is given up.
    one.abort();
    sleep(LEASE / 2).await;
    assert_eq!((theirs.steps(), world.events().await), (0, 489));
    sleep(LEASE / 2 + ASK + SOON).await;
    assert_eq!(world.holder().await.as_deref(), Some("other"));
    assert_eq!((mine.steps(), world.events().await), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn who_stops_gives_it_up_at_once() {
    let world = World::new().await;
    let (_, closing, one) = world.replica("one", 1);
    sleep(SOON).await;
    let (theirs, ..) = world.replica("other", ALL);
    sleep(SOON).await;
    closing.cancel();
    one.await.unwrap();
    assert_eq!(world.holder().await, None);
    sleep(ASK + SOON).await;
    assert!(theirs.steps() > 0);
    assert_eq!(world.holder().await.as_deref(), Some("other"));
}

#[tokio::test(start_paused = true)]
async fn who_has_lost_it_ends_at_the_next_step() {
    let world = World::new().await;
    let (mine, ..) = world.replica("one", 1);
    sleep(SOON).await;
    // Taken by another, while this one stood still.
    let key = Key::parse("/leases/upkeep").unwrap();
    let row = NewItem::new(key, Value::new("other").unwrap());
    world.store.put(row.expires_at(store::millis(world.clock.now()).plus(DAY))).await.unwrap();
    mine.gate.add_permits(ALL);
    sleep(SOON).await;
    assert_eq!((mine.steps(), world.events().await), (2, 489));
    sleep(LEASE * 10).await;
    assert_eq!(mine.steps(), 2);
    assert_eq!(world.holder().await.as_deref(), Some("other"));
}
