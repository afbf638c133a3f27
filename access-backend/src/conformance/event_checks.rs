//! Audit events.

use bytes::Bytes;

use super::tools::{EventStores, fresh};
use crate::{
    Error, EventOrder, EventPage, EventQuery, EventStore, MAX_APPEND_EVENTS, MAX_EVENT_BYTES,
    MAX_EVENT_TEXT, StoredEvent, UnixMillis,
};

fn event(writer: &str, seq: u64, time: i64, name: &str, user: Option<&str>) -> StoredEvent {
    StoredEvent {
        writer: writer.into(),
        seq,
        time: UnixMillis(time),
        name: name.into(),
        user: user.map(Into::into),
        json: Bytes::from(format!("{{\"of\":\"{writer}\",\"seq\":{seq}}}")),
    }
}

fn everything() -> EventQuery {
    EventQuery { limit: 1000, ..EventQuery::default() }
}

fn numbers(page: &EventPage) -> Vec<(&str, u64)> {
    page.events.iter().map(|event| (event.writer.as_str(), event.seq)).collect()
}

async fn found(store: &dyn EventStore, query: EventQuery) -> Vec<u64> {
    store.search(&query).await.unwrap().events.iter().map(|event| event.seq).collect()
}

pub(super) async fn appending_again_changes_nothing(factory: &EventStores) {
    let (store, _) = fresh(factory).await;
    assert_eq!(store.append(Vec::new()).await.unwrap(), 0);
    let first = event("w", 1, 100, "a", Some("u"));
    assert_eq!(store.append(vec![first.clone(), event("w", 2, 200, "b", None)]).await.unwrap(), 2);
    let other = event("w", 1, 900, "other", None);
    assert_eq!(store.append(vec![other, event("w", 3, 300, "c", None)]).await.unwrap(), 1);
    let page = store.search(&everything()).await.unwrap();
    assert_eq!(numbers(&page), [("w", 3), ("w", 2), ("w", 1)], "the newest first");
    assert_eq!(page.events[2], first, "whole and as it was first told");
    assert_eq!(page.next, None);
    assert_eq!(
        store.append(vec![event("v", 1, 100, "a", None)]).await.unwrap(),
        1,
        "writers count apart"
    );
}

pub(super) async fn an_append_is_all_or_nothing(factory: &EventStores) {
    let (store, _) = fresh(factory).await;
    let good = event("w", 1, 1, "a", None);
    let heavy =
        StoredEvent { json: vec![b' '; MAX_EVENT_BYTES + 1].into(), ..event("w", 2, 1, "a", None) };
    let long = event("w", 2, 1, &"n".repeat(MAX_EVENT_TEXT + 1), None);
    for bad in [heavy, long] {
        let refused = store.append(vec![good.clone(), bad]).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })));
    }
    for bad in [good.clone(), event("w", u64::MAX, 1, "a", None)] {
        assert!(matches!(store.append(vec![good.clone(), bad]).await, Err(Error::Invalid { .. })));
    }
    let many =
        |count| (0..count as u64).map(|seq| event("m", seq, 1, "a", None)).collect::<Vec<_>>();
    let refused = store.append(many(MAX_APPEND_EVENTS + 1)).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    assert_eq!(found(&*store, everything()).await, [0; 0]);
    assert_eq!(store.append(many(MAX_APPEND_EVENTS)).await.unwrap(), MAX_APPEND_EVENTS);
    let fits = StoredEvent { json: vec![b' '; MAX_EVENT_BYTES].into(), ..good };
    store.append(vec![fits]).await.unwrap();
}

pub(super) async fn searches_narrow_by_each_field(factory: &EventStores) {
    let (store, _) = fresh(factory).await;
    let events = vec![
        event("w", 1, 100, "login", Some("ann")),
        event("w", 2, 200, "login", Some("bob")),
        event("w", 3, 300, "session", Some("ann")),
        event("w", 4, 400, "join", None),
        event("w", 5, 500, "login", Some("ann")),
    ];
    store.append(events).await.unwrap();
    let oldest = || EventQuery { order: EventOrder::OldestFirst, ..everything() };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let at = |time| Some(UnixMillis(time));
    let ann = || Some("ann".to_owned());
    let cases = [
        (oldest(), vec![1, 2, 3, 4, 5]),
        (EventQuery { from: at(200), ..oldest() }, vec![2, 3, 4, 5]),
        (EventQuery { to: at(200), ..oldest() }, vec![1]),
        (EventQuery { from: at(200), to: at(400), ..oldest() }, vec![2, 3]),
        (EventQuery { names: names(&["login"]), ..oldest() }, vec![1, 2, 5]),
        (EventQuery { names: names(&["session", "join"]), ..oldest() }, vec![3, 4]),
        (EventQuery { names: names(&["none"]), ..oldest() }, vec![]),
        (EventQuery { user: ann(), ..oldest() }, vec![1, 3, 5]),
        (
            EventQuery { user: ann(), names: names(&["login"]), from: at(101), ..everything() },
            vec![5],
        ),
        (EventQuery { user: Some("%".into()), ..oldest() }, vec![]),
        (EventQuery { limit: 2, ..everything() }, vec![5, 4]),
        (EventQuery { limit: 0, ..everything() }, vec![5]),
    ];
    for (query, expected) in cases {
        assert_eq!(found(&*store, query.clone()).await, expected, "{query:?}");
    }
    let many = vec![String::from("x"); 65];
    let refused = store.search(&EventQuery { names: many, ..everything() }).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })));
}

pub(super) async fn search_pages_join_in_both_orders(factory: &EventStores) {
    let (store, _) = fresh(factory).await;
    // Many at one moment, so that the order within it counts.
    let mut all = Vec::new();
    for writer in ["b", "a", "ä.1"] {
        let events: Vec<_> =
            (0..9).map(|seq| event(writer, seq, (seq / 4) as i64, "x", None)).collect();
        store.append(events.clone()).await.unwrap();
        all.extend(events);
    }
    all.sort_by(|a, b| (a.time, &a.writer, a.seq).cmp(&(b.time, &b.writer, b.seq)));
    for order in [EventOrder::OldestFirst, EventOrder::NewestFirst] {
        for limit in [1, 4, 9, 26, 27, 28] {
            let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let query = EventQuery { order, limit, after, ..EventQuery::default() };
                let page = store.search(&query).await.unwrap();
                assert!(page.events.len() <= limit);
                seen.extend(page.events);
                pages += 1;
                match page.next {
                    Some(next) => after = Some(next.to_string().parse().unwrap()),
                    None => break,
                }
            }
            assert_eq!(seen, all, "{order:?}, {limit} a page");
            assert_eq!(pages, 27usize.div_ceil(limit), "{order:?}, {limit} a page");
        }
        all.reverse();
    }
}

pub(super) async fn the_last_number_outlives_its_event(factory: &EventStores) {
    let (store, _) = fresh(factory).await;
    assert_eq!(store.last_seq("w").await.unwrap(), None);
    store.append(vec![event("w", 7, 1, "a", None), event("v", 99, 1, "a", None)]).await.unwrap();
    assert_eq!(store.last_seq("w").await.unwrap(), Some(7));
    store.append(vec![event("w", 3, 2, "a", None)]).await.unwrap();
    assert_eq!(store.last_seq("w").await.unwrap(), Some(7), "the highest, not the latest");
    assert_eq!(store.delete_before(UnixMillis(100), 100).await.unwrap(), 3);
    assert_eq!(store.last_seq("w").await.unwrap(), Some(7));
    let largest = i64::MAX as u64;
    store.append(vec![event("w", largest, 1, "a", None)]).await.unwrap();
    assert_eq!(store.last_seq("w").await.unwrap(), Some(largest));
}

pub(super) async fn retention_deletes_the_oldest_first(factory: &EventStores) {
    let (store, _) = fresh(factory).await;
    let events = (0..10u64).map(|seq| event("w", seq, 100 - seq as i64, "a", None)).collect();
    store.append(events).await.unwrap();
    assert_eq!(store.delete_before(UnixMillis(95), 2).await.unwrap(), 2);
    assert_eq!(found(&*store, everything()).await, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(store.delete_before(UnixMillis(95), 100).await.unwrap(), 2);
    assert_eq!(store.delete_before(UnixMillis(95), 100).await.unwrap(), 0);
    assert_eq!(found(&*store, everything()).await, [0, 1, 2, 3, 4, 5]);
}
