//! Reading and writing.

use std::collections::HashSet;

use super::tools::{Backends, fresh, key, new, prefix, rows, shown, text};
use crate::{
    Batch, Condition, Error, Key, KeyRange, MAX_BATCH_ENTRIES, MAX_KEY_BYTES, MAX_PAGE_BYTES,
    MAX_PAGE_ITEMS, MAX_VALUE_BYTES, NewItem, Operation, Prefix, Revision, Value,
};

pub(super) async fn reads_what_was_written(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    assert_eq!(store.get(&key("/a")).await.unwrap(), None);
    let revision = store.put(new("/a", "1")).await.unwrap();
    let item = store.get(&key("/a")).await.unwrap().unwrap();
    assert_eq!((shown(&item), item.expires), (("/a".into(), "1".into()), None));
    assert_eq!(item.revision, revision, "what a write answers is what a read shows");
    let second = store.put(new("/a", "2")).await.unwrap();
    assert_ne!(revision, second);
    assert_eq!(&store.get(&key("/a")).await.unwrap().unwrap().value[..], b"2");
    store.put(new("/empty", "")).await.unwrap();
    assert!(store.get(&key("/empty")).await.unwrap().unwrap().value.is_empty());
    store.health().await.unwrap();
}

pub(super) async fn create_refuses_what_is_there(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    store.create(new("/a", "1")).await.unwrap();
    assert_eq!(store.create(new("/a", "2")).await, Err(Error::AlreadyExists { key: key("/a") }));
    assert_eq!(&store.get(&key("/a")).await.unwrap().unwrap().value[..], b"1");
    store.delete(&key("/a")).await.unwrap();
    store.create(new("/a", "3")).await.unwrap();
}

pub(super) async fn update_needs_the_revision(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let nothing = Revision::from_bits(u128::MAX);
    assert_eq!(
        store.update(new("/a", "1"), nothing).await,
        Err(Error::NotFound { key: key("/a") })
    );
    let first = store.create(new("/a", "1")).await.unwrap();
    let second = store.update(new("/a", "2"), first).await.unwrap();
    let mismatch = Err(Error::RevisionMismatch { key: key("/a") });
    assert_eq!(store.update(new("/a", "3"), first).await, mismatch);
    assert_eq!(&store.get(&key("/a")).await.unwrap().unwrap().value[..], b"2");
    store.update(new("/a", "3"), second).await.unwrap();
    let other = store.create(new("/b", "1")).await.unwrap();
    assert_eq!(store.update(new("/a", "4"), other).await, mismatch);
}

pub(super) async fn delete_needs_a_row_and_delete_if_its_revision(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let absent = Err(Error::NotFound { key: key("/a") });
    assert_eq!(store.delete(&key("/a")).await, absent);
    let first = store.create(new("/a", "1")).await.unwrap();
    let second = store.put(new("/a", "2")).await.unwrap();
    let mismatch = Err(Error::RevisionMismatch { key: key("/a") });
    assert_eq!(store.delete_if(&key("/a"), first).await, mismatch);
    store.delete_if(&key("/a"), second).await.unwrap();
    assert_eq!(store.delete_if(&key("/a"), second).await, absent);
    assert_eq!(store.get(&key("/a")).await.unwrap(), None);
}

pub(super) async fn revisions_are_never_used_again(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let mut seen = HashSet::new();
    for _ in 0..50 {
        assert!(seen.insert(store.create(new("/a", "same")).await.unwrap()));
        assert!(seen.insert(store.put(new("/a", "same")).await.unwrap()));
        store.delete(&key("/a")).await.unwrap();
    }
    // The same revision would make this delete what another made.
    let old = *seen.iter().next().unwrap();
    let nothing = store.batch(Batch::new().then(Operation::Delete(key("/none")))).await.unwrap();
    assert!(
        seen.insert(store.create(new("/b", "same")).await.unwrap()) && !seen.contains(&nothing)
    );
    store.create(new("/a", "same")).await.unwrap();
    assert!(store.delete_if(&key("/a"), old).await.is_err());
}

pub(super) async fn ranges_are_ordered_and_half_open(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let paths = ["/b", "/a/z", "/a", "/a-b", "/a/ä", "/c", "/a/\u{10348}", "/a/b/c", "/a0"];
    for path in paths {
        store.put(new(path, path)).await.unwrap();
    }
    let mut sorted = paths.map(|path| (path.to_owned(), path.to_owned()));
    sorted.sort();
    assert_eq!(rows(&*store, &KeyRange::all()).await, sorted, "keys order as bytes");
    let names = |rows: Vec<(String, String)>| rows.into_iter().map(|row| row.0).collect::<Vec<_>>();
    let below = names(rows(&*store, &prefix("/a").into()).await);
    assert_eq!(below, ["/a/b/c", "/a/z", "/a/ä", "/a/\u{10348}"]);
    let between = names(rows(&*store, &(key("/a")..key("/b")).into()).await);
    assert_eq!(between.first().map(String::as_str), Some("/a"));
    assert!(!between.contains(&"/b".to_owned()), "the end is not in it");
    assert_eq!(names(rows(&*store, &KeyRange::starting_at(&key("/b"))).await), ["/b", "/c"]);
    assert!(rows(&*store, &(key("/b")..key("/a")).into()).await.is_empty());
    assert!(rows(&*store, &(key("/b")..key("/b")).into()).await.is_empty());
    assert_eq!(rows(&*store, &Prefix::root().into()).await.len(), paths.len());
}

pub(super) async fn pages_join_without_gap_or_repeat(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    for number in 0..25 {
        store.put(new(&format!("/p/{number:02}"), "x")).await.unwrap();
    }
    store.put(new("/q", "outside")).await.unwrap();
    let range = KeyRange::from(prefix("/p"));
    for limit in [1, 4, 5, 24, 25, 26] {
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = store.range(&range, limit, after.as_ref()).await.unwrap();
            assert!(page.items.len() <= limit);
            seen.extend(page.items.into_iter().map(|item| item.key));
            pages += 1;
            match page.next {
                // A cursor may leave the process as text.
                Some(next) => after = Some(next.to_string().parse().unwrap()),
                None => break,
            }
        }
        let all: Vec<Key> = (0..25).map(|number| key(&format!("/p/{number:02}"))).collect();
        assert_eq!(seen, all, "with {limit} a page");
        assert_eq!(pages, 25usize.div_ceil(limit), "with {limit} a page");
    }
    // What comes after the cursor is decided by its key, whether or not that is still there.
    let page = store.range(&range, 3, None).await.unwrap();
    store.delete(&key("/p/02")).await.unwrap();
    let rest = store.range(&range, 1, page.next.as_ref()).await.unwrap();
    assert_eq!(rest.items[0].key, key("/p/03"));
}

pub(super) async fn pages_are_bounded_in_rows_and_bytes(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let mut batch = Batch::new();
    for number in 0..=MAX_PAGE_ITEMS {
        batch = batch.then(Operation::Put(new(&format!("/small/{number}"), "x")));
        if batch.operations.len() == MAX_BATCH_ENTRIES {
            store.batch(std::mem::take(&mut batch)).await.unwrap();
        }
    }
    store.batch(batch).await.unwrap();
    let range = KeyRange::from(prefix("/small"));
    let page = store.range(&range, usize::MAX, None).await.unwrap();
    assert_eq!(page.items.len(), MAX_PAGE_ITEMS);
    assert!(page.next.is_some());
    assert_eq!(store.range(&range, 0, None).await.unwrap().items.len(), 1, "never an empty page");

    let large = Value::new(vec![7; MAX_VALUE_BYTES]).unwrap();
    for number in 0..6 {
        store.put(NewItem::new(key(&format!("/large/{number}")), large.clone())).await.unwrap();
    }
    let range = KeyRange::from(prefix("/large"));
    let page = store.range(&range, 100, None).await.unwrap();
    assert!(page.next.is_some() && page.items.len() <= MAX_PAGE_BYTES / MAX_VALUE_BYTES + 1);
    assert_eq!(crate::read_all(&*store, &range, 6).await.unwrap().len(), 6);
    assert!(matches!(crate::read_all(&*store, &range, 5).await, Err(Error::TooLarge { .. })));
}

pub(super) async fn delete_range_takes_that_range_alone(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    for path in ["/a", "/a/1", "/a/2", "/a/2/3", "/a0", "/b"] {
        store.put(new(path, "x")).await.unwrap();
    }
    assert_eq!(store.delete_range(&prefix("/a").into()).await.unwrap(), 3);
    assert_eq!(store.delete_range(&prefix("/a").into()).await.unwrap(), 0);
    assert_eq!(store.delete_range(&(key("/b")..key("/a")).into()).await.unwrap(), 0);
    let left = rows(&*store, &KeyRange::all()).await;
    assert_eq!(left.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["/a", "/a0", "/b"]);
    assert_eq!(store.delete_range(&KeyRange::all()).await.unwrap(), 3);
}

pub(super) async fn batches_are_all_or_nothing(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let first = store.put(new("/a", "1")).await.unwrap();
    let batch = Batch::new()
        .when(Condition::revision(key("/a"), first))
        .when(Condition::absent(key("/b")))
        .then(Operation::Put(new("/a", "2")))
        .then(Operation::Put(new("/b", "1")))
        .then(Operation::Delete(key("/none")));
    let revision = store.batch(batch.clone()).await.unwrap();
    for path in ["/a", "/b"] {
        assert_eq!(store.get(&key(path)).await.unwrap().unwrap().revision, revision, "{path}");
    }
    assert_eq!(store.batch(batch).await, Err(Error::ConditionFailed { index: 0 }));
    assert_eq!(&store.get(&key("/a")).await.unwrap().unwrap().value[..], b"2");
    let swap = Batch::new()
        .when(Condition::present(key("/a")))
        .then(Operation::Delete(key("/a")))
        .then(Operation::Put(new("/c", "1")));
    store.batch(swap.clone()).await.unwrap();
    store.delete(&key("/c")).await.unwrap();
    assert_eq!(store.batch(swap).await, Err(Error::ConditionFailed { index: 0 }));
    assert_eq!(store.get(&key("/c")).await.unwrap(), None);
    // The revision of a batch serves like any other.
    store.update(new("/b", "2"), revision).await.unwrap();
}

pub(super) async fn batch_conditions_are_checked_in_order(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let first = store.put(new("/a", "1")).await.unwrap();
    store.put(new("/a", "2")).await.unwrap();
    let cases = [
        (vec![Condition::present(key("/a")), Condition::absent(key("/a"))], 1),
        (vec![Condition::present(key("/b")), Condition::absent(key("/a"))], 0),
        (vec![Condition::absent(key("/b")), Condition::revision(key("/a"), first)], 1),
        (vec![Condition::revision(key("/b"), first)], 0),
    ];
    for (conditions, index) in cases {
        let batch = Batch { conditions, operations: vec![Operation::Put(new("/new", "x"))] };
        assert_eq!(store.batch(batch).await, Err(Error::ConditionFailed { index }));
        assert_eq!(store.get(&key("/new")).await.unwrap(), None);
    }
}

pub(super) async fn malformed_batches_are_refused(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let put = |path: &str| Operation::Put(new(path, "x"));
    assert!(matches!(store.batch(Batch::new()).await, Err(Error::Invalid { .. })));
    let twice = Batch::new().then(put("/a")).then(Operation::Delete(key("/a")));
    assert!(matches!(store.batch(twice).await, Err(Error::Invalid { .. })));
    let mut many = Batch::new();
    for number in 0..=MAX_BATCH_ENTRIES {
        many = many.then(put(&format!("/many/{number}")));
    }
    assert!(matches!(store.batch(many.clone()).await, Err(Error::TooLarge { .. })));
    many.operations.pop();
    store.batch(many).await.unwrap();
    let large = Value::new(vec![0; MAX_VALUE_BYTES]).unwrap();
    let operations = (0..9)
        .map(|number| Operation::Put(NewItem::new(key(&format!("/large/{number}")), large.clone())))
        .collect();
    let heavy = Batch { conditions: Vec::new(), operations };
    assert!(matches!(store.batch(heavy).await, Err(Error::TooLarge { .. })));
    assert!(rows(&*store, &prefix("/large").into()).await.is_empty());
}

pub(super) async fn the_largest_key_and_value_fit(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let long = Key::from_segments(["x".repeat(MAX_KEY_BYTES - 2)]).unwrap();
    let large =
        Value::new((0..MAX_VALUE_BYTES).map(|at| (at % 251) as u8).collect::<Vec<_>>()).unwrap();
    store.create(NewItem::new(long.clone(), large.clone())).await.unwrap();
    assert!(store.get(&long).await.unwrap().unwrap().value == large);
    store.put(NewItem::new(long.clone(), text("small"))).await.unwrap();
    assert_eq!(&store.get(&long).await.unwrap().unwrap().value[..], b"small");
}

pub(super) async fn close_is_final(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    store.put(new("/a", "1")).await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(store.get(&key("/a")).await, Err(Error::Closed));
    assert_eq!(store.put(new("/a", "2")).await, Err(Error::Closed));
    assert_eq!(store.range(&KeyRange::all(), 1, None).await, Err(Error::Closed));
    assert_eq!(store.health().await, Err(Error::Closed));
    assert!(matches!(store.watch(&[Prefix::root()], None).await, Err(Error::Closed)));
}
