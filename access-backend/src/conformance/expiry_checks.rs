//! Rows that cease to exist.

use std::time::Duration;

use super::tools::{Backends, START, fresh, key, new, rows};
use crate::{Batch, Condition, Error, KeyRange, Operation, UnixMillis};

const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn expired_rows_are_gone_for_every_operation(factory: &Backends) {
    let (store, clock) = fresh(factory).await;
    let soon = START.plus(SECOND);
    let revision = store.put(new("/a", "1").expires_at(soon)).await.unwrap();
    store.put(new("/b", "1")).await.unwrap();
    clock.advance(SECOND - Duration::from_millis(1));
    assert_eq!(store.get(&key("/a")).await.unwrap().unwrap().expires, Some(soon));
    clock.advance(Duration::from_millis(1));

    let absent = Error::NotFound { key: key("/a") };
    assert_eq!(store.get(&key("/a")).await.unwrap(), None, "gone at the moment of its expiry");
    assert_eq!(rows(&*store, &KeyRange::all()).await.len(), 1);
    assert_eq!(store.update(new("/a", "2"), revision).await, Err(absent.clone()));
    assert_eq!(store.delete(&key("/a")).await, Err(absent.clone()));
    assert_eq!(store.delete_if(&key("/a"), revision).await, Err(absent.clone()));
    let later = soon.plus(SECOND);
    assert_eq!(
        store.keep_alive(&key("/a"), None, later).await,
        Err(absent),
        "it does not come back"
    );
    let demand = |condition| Batch::new().when(condition).then(Operation::Put(new("/c", "1")));
    let failed = Err(Error::ConditionFailed { index: 0 });
    assert_eq!(store.batch(demand(Condition::present(key("/a")))).await, failed);
    assert_eq!(store.batch(demand(Condition::revision(key("/a"), revision))).await, failed);
    store.batch(demand(Condition::absent(key("/a")))).await.unwrap();
    let both = KeyRange::from(key("/a")..key("/c"));
    assert_eq!(store.delete_range(&both).await.unwrap(), 1, "expired rows are not counted");
    store.put(new("/a", "1").expires_at(later)).await.unwrap();
    clock.advance(SECOND);
    store.create(new("/a", "2")).await.unwrap();
    clock.advance(SECOND * 1000);
    assert_eq!(
        store.get(&key("/a")).await.unwrap().unwrap().expires,
        None,
        "the old expiry is gone too"
    );
    assert_eq!(store.sweep(100).await.unwrap(), 0);
}

pub(super) async fn keep_alive_moves_the_expiry(factory: &Backends) {
    let (store, clock) = fresh(factory).await;
    let absent = Err(Error::NotFound { key: key("/a") });
    assert_eq!(store.keep_alive(&key("/a"), None, START.plus(SECOND)).await, absent);
    let first = store.create(new("/a", "1").expires_at(START.plus(SECOND))).await.unwrap();
    let second = store.keep_alive(&key("/a"), Some(first), START.plus(SECOND * 3)).await.unwrap();
    assert_ne!(first, second, "a new revision with every write");
    let mismatch = Err(Error::RevisionMismatch { key: key("/a") });
    assert_eq!(store.keep_alive(&key("/a"), Some(first), START.plus(SECOND * 9)).await, mismatch);
    clock.advance(SECOND * 2);
    let item = store.get(&key("/a")).await.unwrap().unwrap();
    assert_eq!((&item.value[..], item.revision), (&b"1"[..], second));
    assert_eq!(item.expires, Some(START.plus(SECOND * 3)));
    // Also to an earlier moment, and for a row that had no expiry.
    store.keep_alive(&key("/a"), None, START.plus(SECOND * 2)).await.unwrap();
    assert_eq!(store.get(&key("/a")).await.unwrap(), None);
    store.create(new("/b", "1")).await.unwrap();
    store.keep_alive(&key("/b"), None, START.plus(SECOND * 3)).await.unwrap();
    clock.advance(SECOND);
    assert_eq!(store.get(&key("/b")).await.unwrap(), None);
}

pub(super) async fn sweep_deletes_expired_rows_in_steps(factory: &Backends) {
    let (store, clock) = fresh(factory).await;
    for number in 0..10 {
        let expires = UnixMillis(START.0 + 1 + number);
        store.put(new(&format!("/s/{number}"), "x").expires_at(expires)).await.unwrap();
    }
    store.put(new("/s/stays", "x")).await.unwrap();
    assert_eq!(store.sweep(100).await.unwrap(), 0);
    clock.advance(Duration::from_millis(7));
    assert_eq!(store.sweep(5).await.unwrap(), 5);
    assert_eq!(store.sweep(5).await.unwrap(), 2);
    assert_eq!(store.sweep(5).await.unwrap(), 0);
    assert_eq!(rows(&*store, &KeyRange::all()).await.len(), 4);
    // A clock that is set back does not bring rows back.
    clock.set(START);
    assert_eq!(rows(&*store, &KeyRange::all()).await.len(), 4);
}
