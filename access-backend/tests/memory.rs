//! The memory engine passes the suite, and what is its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use access_backend::{
    Backend, Clock, Error, Key, ManualClock, Memory, MemoryOptions, NewItem, Prefix, UnixMillis,
    Value, WatchEvent,
};

async fn fresh(clock: Arc<dyn Clock>) -> Arc<Memory> {
    Arc::new(Memory::new(MemoryOptions { clock, ..MemoryOptions::default() }))
}

mod rows {
    access_backend::conformance_tests!(super::fresh);
}

mod events {
    access_backend::event_conformance_tests!(super::fresh);
}

#[tokio::test]
async fn the_whole_suite_is_one_call() {
    access_backend::conformance::run(fresh).await;
    access_backend::conformance::run_events(fresh).await;
}

fn item(path: &str) -> NewItem {
    NewItem::new(Key::parse(path).unwrap(), Value::new("x").unwrap())
}

#[tokio::test]
async fn a_full_buffer_is_a_reset() {
    let store = Memory::new(MemoryOptions { watch_buffer: 3, ..MemoryOptions::default() });
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    for number in 0..4 {
        store.put(item(&format!("/{number}"))).await.unwrap();
    }
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Ready(_)))));
    for number in 0..3 {
        let Some(Ok(WatchEvent::Changed { item, .. })) = watch.next().await else {
            panic!("no change")
        };
        assert_eq!(item.key.as_str(), format!("/{number}"));
    }
    assert_eq!(watch.next().await, Some(Ok(WatchEvent::Reset)));
    assert_eq!(watch.next().await, None);
    assert_eq!(store.health().await.unwrap().watches, 0);
}

#[tokio::test]
async fn history_is_bounded() {
    let store = Memory::new(MemoryOptions { history: 2, ..MemoryOptions::default() });
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    let Some(Ok(WatchEvent::Ready(start))) = watch.next().await else { panic!("not ready") };
    store.put(item("/1")).await.unwrap();
    store.put(item("/2")).await.unwrap();
    let mut resumed = store.watch(&[Prefix::root()], Some(start)).await.unwrap();
    assert!(matches!(resumed.next().await, Some(Ok(WatchEvent::Changed { .. }))));
    store.put(item("/3")).await.unwrap();
    let mut late = store.watch(&[Prefix::root()], Some(start)).await.unwrap();
    assert_eq!(late.next().await, Some(Ok(WatchEvent::Reset)));
}

#[tokio::test]
async fn who_watches_is_told_of_what_is_swept() {
    let clock = Arc::new(ManualClock::new(UnixMillis(0)));
    let store = Memory::new(MemoryOptions { clock: clock.clone(), ..MemoryOptions::default() });
    for number in 0..600 {
        store.put(item(&format!("/{number}")).expires_at(UnixMillis(1))).await.unwrap();
    }
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    for _ in 0..=600 {
        watch.next().await.unwrap().unwrap();
    }
    clock.advance(Duration::from_millis(1));
    assert_eq!(store.sweep(1000).await.unwrap(), 600);
    for _ in 0..600 {
        assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Deleted { .. }))));
    }
}

#[tokio::test]
async fn dropping_the_store_ends_its_watches() {
    let store = Memory::default();
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    watch.next().await.unwrap().unwrap();
    drop(store);
    assert_eq!(watch.next().await, Some(Err(Error::Closed)));
}
