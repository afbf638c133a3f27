//! Watching.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tools::{
    Backends, Numbers, START, fresh, key, line, lines, new, next, prefix, rows, shown, until_ready,
};
use crate::{Backend, Batch, Error, KeyRange, Operation, Position, Prefix, WatchEvent};

pub(super) async fn a_watch_begins_with_what_is_there(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    for number in 0..600 {
        store.put(new(&format!("/w/{number:03}"), &number.to_string())).await.unwrap();
    }
    store.put(new("/w/gone", "x").expires_at(START)).await.unwrap();
    store.put(new("/other", "x")).await.unwrap();
    let mut watch = store.watch(&[prefix("/w")], None).await.unwrap();
    let (events, _) = until_ready(&mut watch).await;
    let expected: Vec<String> =
        (0..600).map(|number| format!("put /w/{number:03} {number}")).collect();
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), expected);
    store.put(new("/w/new", "1")).await.unwrap();
    assert_eq!(lines(&mut watch, 1).await, ["changed /w/new 1"]);
    assert_eq!(store.health().await.unwrap().watches, 1);
    drop(watch);
    assert_eq!(store.health().await.unwrap().watches, 0);
    let mut nothing = store.watch(&[prefix("/none")], None).await.unwrap();
    assert_eq!(lines(&mut nothing, 1).await, ["ready"]);
}

pub(super) async fn events_come_in_the_order_of_commits(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    let (_, ready) = until_ready(&mut watch).await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..40 {
                    // What is acknowledged first is committed first.
                    store.put(new(&format!("/{writer}/first"), &number.to_string())).await.unwrap();
                    store
                        .put(new(&format!("/{writer}/second"), &number.to_string()))
                        .await
                        .unwrap();
                }
                store.delete_range(&prefix(&format!("/{writer}")).into()).await.unwrap();
            })
        })
        .collect();
    let mut seen: BTreeMap<char, Vec<String>> = BTreeMap::new();
    let mut last = ready;
    for _ in 0..4 * (40 * 2 + 2) {
        let event = next(&mut watch).await;
        let (WatchEvent::Changed { position, .. } | WatchEvent::Deleted { position, .. }) = &event
        else {
            panic!("{event:?} among changes");
        };
        assert!(*position > last, "positions rise");
        last = *position;
        let line = line(&event);
        let writer = line.chars().find(char::is_ascii_digit).unwrap();
        seen.entry(writer).or_default().push(line);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for (writer, lines) in seen {
        let mut expected = Vec::new();
        for number in 0..40 {
            expected.push(format!("changed /{writer}/first {number}"));
            expected.push(format!("changed /{writer}/second {number}"));
        }
        expected.extend(["first", "second"].map(|name| format!("deleted /{writer}/{name}")));
        assert_eq!(lines, expected);
    }
}

pub(super) async fn a_watch_sees_its_prefixes_alone(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let prefixes = [prefix("/b"), prefix("/a/x"), prefix("/b/y"), prefix("/b")];
    let mut watch = store.watch(&prefixes, None).await.unwrap();
    until_ready(&mut watch).await;
    for path in ["/a", "/a/x", "/a/x/1", "/a/y/1", "/b", "/b/y/1", "/b0/1", "/c/1", "/b/end"] {
        store.put(new(path, "1")).await.unwrap();
    }
    // Each once, although two of the prefixes cover one of them.
    let expected = ["changed /a/x/1 1", "changed /b/y/1 1", "changed /b/end 1"];
    assert_eq!(lines(&mut watch, 3).await, expected);
    let mut again = store.watch(&prefixes, None).await.unwrap();
    let (events, _) = until_ready(&mut again).await;
    let expected = ["put /a/x/1 1", "put /b/end 1", "put /b/y/1 1"];
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), expected);
}

pub(super) async fn sweeping_and_keeping_alive_are_seen(factory: &Backends) {
    let (store, clock) = fresh(factory).await;
    let second = Duration::from_secs(1);
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    until_ready(&mut watch).await;
    store.put(new("/a", "1").expires_at(START.plus(second))).await.unwrap();
    let revision = store.keep_alive(&key("/a"), None, START.plus(second * 2)).await.unwrap();
    assert_eq!(lines(&mut watch, 1).await, ["changed /a 1"]);
    let WatchEvent::Changed { item, .. } = next(&mut watch).await else { panic!("no change") };
    assert_eq!((item.expires, item.revision), (Some(START.plus(second * 2)), revision));
    clock.advance(second * 2);
    assert_eq!(store.sweep(10).await.unwrap(), 1);
    assert_eq!(lines(&mut watch, 1).await, ["deleted /a"]);
    // Refused writes leave nothing behind.
    store.delete(&key("/a")).await.unwrap_err();
    store.batch(Batch::new().then(Operation::Delete(key("/a")))).await.unwrap();
    store.put(new("/b", "1")).await.unwrap();
    store.create(new("/b", "2")).await.unwrap_err();
    store.put(new("/end", "1")).await.unwrap();
    assert_eq!(lines(&mut watch, 2).await, ["changed /b 1", "changed /end 1"]);
}

pub(super) async fn a_watch_resumes_after_its_position(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let all = [prefix("/r")];
    store.put(new("/r/a", "0")).await.unwrap();
    let mut watch = store.watch(&all, None).await.unwrap();
    let (_, ready) = until_ready(&mut watch).await;
    store.put(new("/r/a", "1")).await.unwrap();
    store.put(new("/r/b", "1")).await.unwrap();
    store.put(new("/elsewhere", "1")).await.unwrap();
    store.put(new("/r/a", "2")).await.unwrap();
    store.delete(&key("/r/b")).await.unwrap();
    let mut positions = Vec::new();
    for _ in 0..4 {
        let event = next(&mut watch).await;
        let (WatchEvent::Changed { position, .. } | WatchEvent::Deleted { position, .. }) = event
        else {
            panic!("{event:?} among changes");
        };
        positions.push(position);
    }
    drop(watch);
    // Changes to one key may be folded into the last: what counts is what they come to.
    for (from, states) in [
        (ready, "a1 b0"),
        (positions[0], "a1 b0"),
        (positions[1], "a1 b1"),
        (positions[2], "a2 b1"),
    ] {
        // A position may leave the process as text.
        let from: Position = from.to_string().parse().unwrap();
        let mut watch = store.watch(&all, Some(from)).await.unwrap();
        let (events, _) = until_ready(&mut watch).await;
        let lines: Vec<String> = events.iter().map(line).collect();
        assert_eq!(
            lines.iter().rfind(|line| line.contains("/r/b")).unwrap(),
            "deleted /r/b",
            "{states}"
        );
        let a = lines.iter().rfind(|line| line.contains("/r/a")).map(String::as_str);
        let expected = (!states.starts_with("a2")).then_some("changed /r/a 2");
        assert_eq!(a, expected, "{states}");
        assert!(!lines.iter().any(|line| line.contains("elsewhere") || line.starts_with("put")));
    }
    let mut watch = store.watch(&all, Some(positions[3])).await.unwrap();
    let (events, end) = until_ready(&mut watch).await;
    assert_eq!(events, []);
    assert!(end >= positions[3]);
    store.put(new("/r/c", "1")).await.unwrap();
    assert_eq!(lines(&mut watch, 1).await, ["changed /r/c 1"]);
    let mut at_end = store.watch(&all, Some(end)).await.unwrap();
    assert_eq!(lines(&mut at_end, 2).await, ["changed /r/c 1", "ready"]);
}

pub(super) async fn a_batch_can_be_resumed_in_its_middle(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let mut watch = store.watch(&[prefix("/m")], None).await.unwrap();
    until_ready(&mut watch).await;
    let puts = ["/m/1", "/m/2", "/m/3"].map(|path| Operation::Put(new(path, "1")));
    store.batch(Batch { conditions: Vec::new(), operations: puts.to_vec() }).await.unwrap();
    let WatchEvent::Changed { position, .. } = next(&mut watch).await else { panic!("no change") };
    let mut rest = store.watch(&[prefix("/m")], Some(position)).await.unwrap();
    assert_eq!(lines(&mut rest, 3).await, ["changed /m/2 1", "changed /m/3 1", "ready"]);
}

pub(super) async fn an_unknown_position_is_reset(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let (other, _) = fresh(factory).await;
    for number in 0..20 {
        store.put(new("/a", &number.to_string())).await.unwrap();
        other.put(new("/a", &number.to_string())).await.unwrap();
    }
    let mut watch = other.watch(&[Prefix::root()], None).await.unwrap();
    let (_, foreign) = until_ready(&mut watch).await;
    for from in [Position::from_bits(0), Position::from_bits(u128::MAX), foreign] {
        let mut watch = store.watch(&[Prefix::root()], Some(from)).await.unwrap();
        assert_eq!(lines(&mut watch, 1).await, ["reset"], "{from:?}");
        assert_eq!(watch.next().await, None);
    }
}

pub(super) async fn a_slow_reader_is_reset_and_never_misses_silently(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    until_ready(&mut watch).await;
    let total = 40 * 256;
    let mut written = 0;
    while written < total {
        let mut batch = Batch::new();
        for _ in 0..256 {
            batch = batch.then(Operation::Put(new(&format!("/{written}"), "x")));
            written += 1;
        }
        store.batch(batch).await.unwrap();
    }
    for number in 0..total {
        match next(&mut watch).await {
            WatchEvent::Reset => {
                assert_eq!(watch.next().await, None, "nothing after a reset");
                break;
            }
            event => {
                assert_eq!(line(&event), format!("changed /{number} x"), "nothing is left out")
            }
        }
    }
    // A new watch has it all.
    let mut again = store.watch(&[Prefix::root()], None).await.unwrap();
    assert_eq!(until_ready(&mut again).await.0.len(), total);
}

pub(super) async fn nothing_is_lost_between_snapshot_and_changes(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut numbers = Numbers::new(7);
            for number in 0..1500 {
                let path = format!("/n/{}", numbers.below(60));
                if numbers.below(4) == 0 {
                    let _absent = store.delete(&key(&path)).await;
                } else {
                    store.put(new(&path, &number.to_string())).await.unwrap();
                }
                tokio::task::yield_now().await;
            }
            store.put(new("/n/end", "end")).await.unwrap();
        })
    };
    let mut followers = Vec::new();
    while !writing.is_finished() {
        if followers.len() < 20 {
            followers.push(tokio::spawn(follow(store.clone())));
        }
        // Spread over the time of writing.
        store.get(&key("/n/end")).await.unwrap();
        tokio::task::yield_now().await;
        store.range(&KeyRange::all(), 1000, None).await.unwrap();
    }
    writing.await.unwrap();
    followers.push(tokio::spawn(follow(store.clone())));
    let end: BTreeMap<String, String> = rows(&*store, &KeyRange::all()).await.into_iter().collect();
    for follower in followers {
        assert_eq!(follower.await.unwrap(), end);
    }
}

/// Keeps what a watch tells until the last write is seen, beginning again after a reset.
async fn follow(store: std::sync::Arc<dyn Backend>) -> BTreeMap<String, String> {
    'begin: loop {
        let mut kept = BTreeMap::new();
        let mut watch = store.watch(&[prefix("/n")], None).await.unwrap();
        let mut ready = false;
        loop {
            match next(&mut watch).await {
                WatchEvent::Put(item) => {
                    assert!(!ready, "rows come before the mark");
                    let (key, value) = shown(&item);
                    assert!(kept.insert(key, value).is_none(), "each row once");
                }
                WatchEvent::Changed { item, .. } => {
                    assert!(ready, "changes come after the mark");
                    kept.extend([shown(&item)]);
                }
                WatchEvent::Deleted { key, .. } => {
                    kept.remove(key.as_str());
                }
                WatchEvent::Ready(_) => ready = true,
                WatchEvent::Reset => continue 'begin,
            }
            if ready && kept.contains_key("/n/end") {
                return kept;
            }
        }
    }
}

pub(super) async fn a_watch_needs_a_prefix(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    assert!(matches!(store.watch(&[], None).await, Err(Error::Invalid { .. })));
}

pub(super) async fn closing_ends_watches(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    until_ready(&mut watch).await;
    store.put(new("/a", "1")).await.unwrap();
    assert_eq!(lines(&mut watch, 1).await, ["changed /a 1"]);
    store.close().await.unwrap();
    assert_eq!(watch.next().await, Some(Err(Error::Closed)));
    assert_eq!(watch.next().await, None);
}
