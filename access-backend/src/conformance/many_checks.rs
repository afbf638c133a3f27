//! Audit events of which many come at once, which an engine may keep in another way.

use bytes::Bytes;

use super::tools::{EventStores, fresh};
use crate::{
    EventOrder, EventPage, EventQuery, EventStore, MAX_APPEND_EVENTS, StoredEvent, UnixMillis,
};

fn event(writer: &str, seq: u64) -> StoredEvent {
    let name = if seq.is_multiple_of(50) { "end" } else { "query" };
    let user = match seq % 3 {
        0 => None,
        1 => Some("ann".to_owned()),
        _ => Some("bob".to_owned()),
    };
    StoredEvent {
        writer: writer.into(),
        seq,
        time: UnixMillis(1_000 + (seq / 4) as i64),
        name: name.into(),
        user,
        json: Bytes::from(format!("{{\"of\":\"{writer}\",\"seq\":{seq}}}")),
    }
}

fn many(writer: &str, from: u64, to: u64) -> Vec<StoredEvent> {
    (from..=to).map(|seq| event(writer, seq)).collect()
}

async fn all(store: &dyn EventStore, query: EventQuery) -> Vec<StoredEvent> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let query = EventQuery { after, ..query.clone() };
        let EventPage { events, next } = store.search(&query).await.unwrap();
        assert!(events.len() <= query.limit);
        found.extend(events);
        match next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

pub(super) async fn many_at_once_are_found_like_others(factory: &EventStores) {
    let (store, _) = fresh(factory).await;
    let mut expected = Vec::new();
    for part in [
        many("w", 1, 300),
        many("v", 1, 3),
        many("v", 4, 200),
        many("w", 301, 310),
        many("w", 311, 311 + MAX_APPEND_EVENTS as u64 - 1),
        many("u", 7, 7),
    ] {
        assert_eq!(store.append(part.clone()).await.unwrap(), part.len());
        expected.extend(part);
    }
    assert_eq!(store.last_seq("w").await.unwrap(), Some(1310));
    assert_eq!(store.last_seq("v").await.unwrap(), Some(200));
    expected.sort_by(|a, b| (a.time, &a.writer, a.seq).cmp(&(b.time, &b.writer, b.seq)));
    let at = |time| Some(UnixMillis(time));
    for order in [EventOrder::OldestFirst, EventOrder::NewestFirst] {
        let query = |limit| EventQuery { order, limit, ..EventQuery::default() };
        for limit in [7, 200, 1000] {
            assert_eq!(all(&*store, query(limit)).await, expected, "{order:?}, {limit} a page");
        }
        for narrow in [
            EventQuery { from: at(1_020), to: at(1_060), ..query(33) },
            EventQuery { names: vec!["end".into()], ..query(3) },
            EventQuery {
                names: vec!["end".into(), "none".into()],
                user: Some("bob".into()),
                ..query(2)
            },
            EventQuery { names: vec!["nd".into()], ..query(9) },
            EventQuery { user: Some("ann".into()), to: at(1_049), ..query(100) },
            EventQuery { user: Some("a".into()), ..query(100) },
        ] {
            let wanted: Vec<_> = expected
                .iter()
                .filter(|event| {
                    narrow.from.is_none_or(|from| event.time >= from)
                        && narrow.to.is_none_or(|to| event.time < to)
                        && (narrow.names.is_empty() || narrow.names.contains(&event.name))
                        && (narrow.user.is_none() || narrow.user == event.user)
                })
                .cloned()
                .collect();
            assert_eq!(all(&*store, narrow.clone()).await, wanted, "{narrow:?}");
        }
        expected.reverse();
    }
}

pub(super) async fn many_appended_again_change_nothing(factory: &EventStores) {
    let (store, _) = fresh(factory).await;
    let query = EventQuery { order: EventOrder::OldestFirst, limit: 1000, ..EventQuery::default() };
    assert_eq!(store.append(many("w", 1, 100)).await.unwrap(), 100);
    assert_eq!(store.append(many("w", 1, 100)).await.unwrap(), 0);
    assert_eq!(store.append(many("w", 60, 150)).await.unwrap(), 50, "a part is new");
    assert_eq!(store.append(many("w", 99, 99)).await.unwrap(), 0, "one of many");
    assert_eq!(store.append(many("w", 201, 300)).await.unwrap(), 100);
    assert_eq!(store.append(many("w", 140, 210)).await.unwrap(), 50, "what had been missing");
    let other = StoredEvent { json: "{}".into(), ..event("w", 250) };
    assert_eq!(store.append(vec![other, event("w", 301)]).await.unwrap(), 1);
    assert_eq!(all(&*store, query).await, many("w", 1, 301));
    assert_eq!(store.last_seq("w").await.unwrap(), Some(301));
}

pub(super) async fn retention_takes_many_at_once(factory: &EventStores) {
    let (store, _) = fresh(factory).await;
    store.append(many("w", 1, 200)).await.unwrap();
    store.append(many("w", 201, 400)).await.unwrap();
    store.append(many("w", 401, 405)).await.unwrap();
    // Before the 200th, which is of the moment 1050.
    let mut gone = 0;
    loop {
        match store.delete_before(UnixMillis(1_051), 1000).await.unwrap() {
            0 => break,
            count => gone += count,
        }
    }
    let query = EventQuery { order: EventOrder::OldestFirst, limit: 1000, ..EventQuery::default() };
    let left = all(&*store, query.clone()).await;
    assert_eq!(gone + left.len(), 405);
    assert!((200..=203).contains(&gone), "{gone}");
    assert_eq!(left, many("w", gone as u64 + 1, 405));
    assert_eq!(store.last_seq("w").await.unwrap(), Some(405));
    while store.delete_before(UnixMillis(2_000), 1).await.unwrap() > 0 {}
    assert_eq!(all(&*store, query).await, []);
    store.append(many("w", 406, 500)).await.unwrap();
    assert_eq!(store.last_seq("w").await.unwrap(), Some(500));
}
