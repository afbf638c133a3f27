//! What the checks share.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Backend, Clock, EventStore, Item, Key, KeyRange, ManualClock, NewItem, Position, Prefix,
    UnixMillis, Value, Watch, WatchEvent,
};

type Made<B> = Pin<Box<dyn Future<Output = Arc<B>> + Send>>;

pub(super) type BoxedFactory<B> = Box<dyn Fn(Arc<dyn Clock>) -> Made<B> + Send + Sync>;
pub(super) type Backends = BoxedFactory<dyn Backend>;
pub(super) type EventStores = BoxedFactory<dyn EventStore>;

/// When the checks' clocks begin.
pub(super) const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// How long to wait for what must come.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn boxed_backend<B, F, R>(factory: F) -> Backends
where
    B: Backend,
    F: Fn(Arc<dyn Clock>) -> R + Send + Sync + 'static,
    R: Future<Output = Arc<B>> + Send + 'static,
{
    Box::new(move |clock| {
        let made = factory(clock);
        Box::pin(async move { made.await as Arc<dyn Backend> })
    })
}

pub(super) fn boxed_events<E, F, R>(factory: F) -> EventStores
where
    E: EventStore,
    F: Fn(Arc<dyn Clock>) -> R + Send + Sync + 'static,
    R: Future<Output = Arc<E>> + Send + 'static,
{
    Box::new(move |clock| {
        let made = factory(clock);
        Box::pin(async move { made.await as Arc<dyn EventStore> })
    })
}

pub(super) fn block_on(check: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(check);
}

/// An empty store, and its clock at [`START`].
pub(super) async fn fresh<B: ?Sized>(factory: &BoxedFactory<B>) -> (Arc<B>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START));
    (factory(clock.clone()).await, clock)
}

pub(super) fn key(path: &str) -> Key {
    Key::parse(path).expect("a key")
}

pub(super) fn prefix(path: &str) -> Prefix {
    Prefix::parse(path).expect("a prefix")
}

pub(super) fn new(path: &str, value: &str) -> NewItem {
    NewItem::new(key(path), text(value))
}

pub(super) fn text(value: &str) -> Value {
    Value::new(value.to_owned()).expect("a value")
}

/// The rows of `range`, as paths and texts.
pub(super) async fn rows(store: &dyn Backend, range: &KeyRange) -> Vec<(String, String)> {
    let items = crate::read_all(store, range, usize::MAX).await.expect("a range");
    items.iter().map(shown).collect()
}

pub(super) fn shown(item: &Item) -> (String, String) {
    (item.key.to_string(), String::from_utf8_lossy(&item.value).into_owned())
}

/// The next event, which must come.
pub(super) async fn next(watch: &mut Watch) -> WatchEvent {
    let event = tokio::time::timeout(DEADLINE, watch.next()).await.expect("an event in time");
    event.expect("an event before the end").expect("an event, no error")
}

/// What comes up to the ready mark, and its position.
pub(super) async fn until_ready(watch: &mut Watch) -> (Vec<WatchEvent>, Position) {
    let mut events = Vec::new();
    loop {
        match next(watch).await {
            WatchEvent::Ready(position) => return (events, position),
            event => events.push(event),
        }
    }
}

/// The event in a line: `put /a 1`, `changed /a 2`, `deleted /a`, `ready`, `reset`.
pub(super) fn line(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Put(item) => format!("put {} {}", item.key, shown(item).1),
        WatchEvent::Changed { item, .. } => format!("changed {} {}", item.key, shown(item).1),
        WatchEvent::Deleted { key, .. } => format!("deleted {key}"),
        WatchEvent::Ready(_) => "ready".into(),
        WatchEvent::Reset => "reset".into(),
    }
}

/// The next `count` events, in lines.
pub(super) async fn lines(watch: &mut Watch, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..count {
        lines.push(line(&next(watch).await));
    }
    lines
}

/// A small generator of numbers: the suite brings no dependency of its own, and a seed repeats a run.
#[derive(Clone, Debug)]
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`. <https://en.wikipedia.org/wiki/Xorshift>
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
