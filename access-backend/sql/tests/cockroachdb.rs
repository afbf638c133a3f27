//! What is CockroachDB's alone, against a stand-in on the PostgreSQL wire.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr)]

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access_backend::conformance::{run, run_events, run_one};
use access_backend::{
    Backend, Batch, Clock, Condition, Error, EventQuery, EventStore, ManualClock, Operation,
    Position, Prefix, StoredEvent, SystemClock, UnixMillis, Watch, WatchEvent,
};
use access_backend_sql::{ConnString, Engine, Regions, Retention, Sql, SqlOptions, Survive};
use common::cutter::Cutter;
use common::roach::Roach;
use common::{item, key};

const DEADLINE: Duration = Duration::from_secs(20);

async fn open_with(roach: &Roach, clock: Arc<dyn Clock>) -> Result<Arc<Sql>, Error> {
    let options = SqlOptions {
        clock,
        max_clock_skew: None,
        feed_patience: Duration::from_secs(2),
        ..SqlOptions::new(Engine::CockroachDb, &roach.url()).unwrap()
    };
    Sql::open(options).await.map(Arc::new)
}

async fn open(roach: &Roach) -> Arc<Sql> {
    open_with(roach, Arc::new(SystemClock)).await.unwrap()
}

async fn fresh(clock: Arc<dyn Clock>) -> Arc<Sql> {
    open_with(&Roach::start().await, clock).await.unwrap()
}

async fn next(watch: &mut Watch) -> WatchEvent {
    tokio::time::timeout(DEADLINE, watch.next()).await.expect("in time").unwrap().unwrap()
}

async fn until_ready(watch: &mut Watch) -> (Vec<WatchEvent>, Position) {
    let mut events = Vec::new();
    loop {
        match next(watch).await {
            WatchEvent::Ready(position) => return (events, position),
            event => events.push(event),
        }
    }
}

fn changed(event: &WatchEvent) -> &str {
    match event {
        WatchEvent::Changed { item, .. } => item.key.as_str(),
        other => panic!("{other:?}"),
    }
}

fn event() -> StoredEvent {
    StoredEvent {
        writer: "w".into(),
        seq: 1,
        time: UnixMillis(1),
        name: "n".into(),
        user: None,
        json: "{}".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite() {
    run(fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_events() {
    run_events(fresh).await;
}

/// A store, and who cuts its connections.
type Cut = (Cutter, Arc<Sql>);

#[test]
fn histories_are_linearizable_while_connections_are_cut() {
    let cutters: Arc<Mutex<Vec<Cut>>> = Arc::default();
    // Of several keys, CockroachDB promises to be serializable and no more. The stand-in shows that our part is right.
    for check in [
        "concurrent_operations_on_one_key_are_linearizable",
        "concurrent_batches_are_linearizable",
        "counting_by_revision_loses_nothing",
        "clients_that_are_killed_leave_whole_operations",
    ] {
        let kept = cutters.clone();
        run_one(check, move |clock: Arc<dyn Clock>| {
            let kept = kept.clone();
            async move {
                let roach = Roach::start().await;
                let cutter = Cutter::start(roach.port);
                let url = roach.url().replace(&roach.port.to_string(), &cutter.port.to_string());
                let options = SqlOptions {
                    clock,
                    max_clock_skew: None,
                    patience: Duration::from_secs(30),
                    ..SqlOptions::new(Engine::CockroachDb, &url).unwrap()
                };
                let store = Arc::new(Sql::open(options).await.unwrap());
                if check != "counting_by_revision_loses_nothing" {
                    // From here on no connection lasts.
                    cutter.allow(4000, 8000);
                    cutter.cut();
                }
                kept.lock().unwrap().push((cutter, store.clone()));
                store
            }
        });
    }
    let kept = cutters.lock().unwrap();
    let cuts: u64 = kept.iter().map(|(cutter, _)| cutter.cuts()).sum();
    let lost: u64 = kept.iter().map(|(_, store)| store.stats().lost).sum();
    eprintln!("{cuts} cuts, {lost} writes open");
    assert!(lost > 5, "the cuts hit writes: {lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_start_at_once_on_an_empty_database() {
    let roach = Roach::start().await;
    // What each of them notes of the version meets what others note.
    roach.faults.version_conflicts.store(5, Ordering::SeqCst);
    let starting: Vec<_> = (0..8)
        .map(|number| {
            let (url, path) = (roach.url(), format!("/{number}"));
            tokio::spawn(async move {
                let options = SqlOptions {
                    max_clock_skew: None,
                    ..SqlOptions::new(Engine::CockroachDb, &url).unwrap()
                };
                let store = Sql::open(options).await.unwrap();
                store.put(item(&path, "x")).await.unwrap();
                store
            })
        })
        .collect();
    let mut versions = Vec::new();
    for store in futures::future::join_all(starting).await {
        versions.push(store.unwrap().report().await.unwrap().schema_version);
    }
    assert_eq!(roach.faults.version_conflicts.load(Ordering::SeqCst), 0, "they met");
    assert!(
        versions[0] >= Some(2) && versions.iter().all(|one| *one == versions[0]),
        "{versions:?}"
    );
    let store = open(&roach).await;
    let rows = store.range(&access_backend::KeyRange::all(), 100, None).await.unwrap().items;
    assert_eq!(rows.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_watch_share_one_feed() {
    let roach = Roach::start().await;
    let store = open(&roach).await;
    let mut watches = Vec::new();
    for number in 0..200 {
        let prefix = Prefix::parse(if number % 2 == 0 { "/even" } else { "/odd" }).unwrap();
        let mut watch = store.watch(&[prefix], None).await.unwrap();
        until_ready(&mut watch).await;
        watches.push(watch);
    }
    store.put(item("/even/a", "1")).await.unwrap();
    store.put(item("/odd/a", "1")).await.unwrap();
    for (number, watch) in watches.iter_mut().enumerate() {
        let expected = if number % 2 == 0 { "/even/a" } else { "/odd/a" };
        assert_eq!(changed(&next(watch).await), expected);
    }
    assert_eq!(roach.feeds(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_events_are_tried_again_and_counted() {
    let roach = Roach::start().await;
    let store = open(&roach).await;
    roach.faults.conflicts.store(3, Ordering::SeqCst);
    assert_eq!(store.append(vec![event()]).await.unwrap(), 1);
    assert_eq!(store.stats().retries, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_commit_is_tried_again() {
    let roach = Roach::start().await;
    let store = open(&roach).await;
    roach.faults.conflicts.store(3, Ordering::SeqCst);
    store.put(item("/a", "1")).await.unwrap();
    assert_eq!(store.stats().retries, 3);
    roach.faults.conflicts.store(2, Ordering::SeqCst);
    let batch = Batch::new()
        .when(Condition::absent(key("/b")))
        .then(Operation::Put(item("/b", "1")))
        .then(Operation::Delete(key("/a")));
    store.batch(batch.clone()).await.unwrap();
    assert_eq!(store.stats().retries, 5);
    assert_eq!(store.batch(batch).await, Err(Error::ConditionFailed { index: 0 }));
    // Not for ever.
    roach.faults.conflicts.store(u64::MAX, Ordering::SeqCst);
    let error = store.put(item("/a", "2")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_for_nothing_but_its_conditions() {
    let roach = Roach::start().await;
    let store = open(&roach).await;
    let batch = |value: &str| {
        Batch::new()
            .then(Operation::Put(item("/a", value)))
            .then(Operation::Put(item("/b", value)))
            .then(Operation::Delete(key("/c")))
    };
    // A client that waited for an answer in between would wait for ever.
    roach.faults.together.store(true, Ordering::SeqCst);
    let written = tokio::time::timeout(DEADLINE, async {
        let first = store.batch(batch("1")).await?;
        let second = store.batch(batch("2").when(Condition::revision(key("/a"), first))).await?;
        let refused = store.batch(batch("3").when(Condition::revision(key("/a"), first))).await;
        assert_eq!(refused, Err(Error::ConditionFailed { index: 0 }));
        // What is refused at the end is begun anew.
        roach.faults.conflicts.store(2, Ordering::SeqCst);
        let third = store.batch(batch("4")).await?;
        assert!(third != second);
        Ok::<_, Error>(third)
    });
    let revision = written.await.expect("it waits for what comes with the end").unwrap();
    assert_eq!(store.stats().retries, 2);
    assert_eq!(store.get(&key("/b")).await.unwrap().unwrap().revision, revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_looked_up() {
    let roach = Roach::start().await;
    let store = open(&roach).await;
    roach.faults.cuts_after_commit.store(1, Ordering::SeqCst);
    let revision = store.put(item("/a", "1")).await.unwrap();
    assert_eq!(store.get(&key("/a")).await.unwrap().unwrap().revision, revision);
    roach.faults.cuts_after_commit.store(1, Ordering::SeqCst);
    let batch = Batch::new()
        .when(Condition::revision(key("/a"), revision))
        .then(Operation::Put(item("/a", "2")))
        .then(Operation::Put(item("/b", "2")));
    let revision = store.batch(batch).await.unwrap();
    assert_eq!(store.get(&key("/b")).await.unwrap().unwrap().revision, revision);
    assert_eq!((store.stats().lost, store.stats().resolved), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_breaks_or_stalls_misses_nothing() {
    let roach = Roach::start().await;
    let store = open(&roach).await;
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    until_ready(&mut watch).await;
    for number in 0..20 {
        roach.faults.feeds_cut.store(number % 2, Ordering::SeqCst);
        store.put(item(&format!("/{number}"), "x")).await.unwrap();
        store.put(item(&format!("/{number}/more"), "x")).await.unwrap();
        assert_eq!(changed(&next(&mut watch).await), format!("/{number}"));
        assert_eq!(changed(&next(&mut watch).await), format!("/{number}/more"));
    }
    assert!(roach.feeds() >= 10, "{} feeds", roach.feeds());
    // What stalls is begun again, and what comes twice is shown once.
    let feeds = roach.feeds();
    roach.faults.stalled.store(true, Ordering::SeqCst);
    store.put(item("/stalled", "x")).await.unwrap();
    assert_eq!(changed(&next(&mut watch).await), "/stalled");
    let until = std::time::Instant::now() + DEADLINE;
    while roach.feeds() == feeds {
        assert!(std::time::Instant::now() < until, "the feed is not begun again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    roach.faults.stalled.store(false, Ordering::SeqCst);
    // The same moment again and again is no sign of life.
    let feeds = roach.feeds();
    roach.faults.stuck.store(true, Ordering::SeqCst);
    let until = std::time::Instant::now() + DEADLINE;
    while roach.feeds() == feeds {
        assert!(std::time::Instant::now() < until, "the feed is not begun again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    roach.faults.stuck.store(false, Ordering::SeqCst);
    store.delete(&key("/stalled")).await.unwrap();
    assert!(matches!(next(&mut watch).await, WatchEvent::Deleted { .. }));
    store.health().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_has_forgotten_is_a_reset() {
    let roach = Roach::start().await;
    let store = open(&roach).await;
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    let (_, start) = until_ready(&mut watch).await;
    roach.faults.forgotten.store(true, Ordering::SeqCst);
    roach.faults.feeds_cut.store(1, Ordering::SeqCst);
    store.put(item("/a", "1")).await.unwrap();
    // The change may be lost with the connection, and is then among what is forgotten.
    match next(&mut watch).await {
        WatchEvent::Reset => {}
        event => {
            assert_eq!(changed(&event), "/a");
            assert_eq!(next(&mut watch).await, WatchEvent::Reset);
        }
    }
    let mut late = store.watch(&[Prefix::root()], Some(start)).await.unwrap();
    assert_eq!(next(&mut late).await, WatchEvent::Reset);
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    assert_eq!(until_ready(&mut watch).await.0.len(), 1);
    store.put(item("/b", "1")).await.unwrap();
    assert_eq!(changed(&next(&mut watch).await), "/b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_is_one_of_another_process_too() {
    let roach = Roach::start().await;
    let (one, other) = (open(&roach).await, open(&roach).await);
    let mut watch = one.watch(&[Prefix::root()], None).await.unwrap();
    let (_, start) = until_ready(&mut watch).await;
    // Until what the first has resolved is later than what the other began with.
    let until = std::time::Instant::now() + DEADLINE;
    let position = loop {
        assert!(std::time::Instant::now() < until, "no position is of use");
        other.put(item("/a", "1")).await.unwrap();
        let WatchEvent::Changed { position, .. } = next(&mut watch).await else {
            panic!("no change")
        };
        let mut again = other.watch(&[Prefix::root()], Some(position)).await.unwrap();
        if next(&mut again).await != WatchEvent::Reset {
            break position;
        }
    };
    let mut seen = other.watch(&[Prefix::root()], None).await.unwrap();
    assert_eq!(until_ready(&mut seen).await.0.len(), 1);
    one.put(item("/b", "1")).await.unwrap();
    assert_eq!(changed(&next(&mut seen).await), "/b");
    let mut again = other.watch(&[Prefix::root()], Some(position)).await.unwrap();
    let (events, _) = until_ready(&mut again).await;
    assert!(events.iter().any(|event| changed(event) == "/b"), "{events:?}");
    let mut again = other.watch(&[Prefix::root()], Some(start)).await.unwrap();
    let first = next(&mut again).await;
    assert!(matches!(&first, WatchEvent::Reset | WatchEvent::Changed { .. }), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_up_wrong_is_said() {
    let roach = Roach::start().await;
    roach.faults.no_rangefeeds.store(true, Ordering::SeqCst);
    let error = open_with(&roach, Arc::new(SystemClock)).await.unwrap_err().to_string();
    assert!(error.contains("SET CLUSTER SETTING kv.rangefeed.enabled = true"), "{error}");
    let options = SqlOptions::new(Engine::Postgres, &roach.url()).unwrap();
    let error = Sql::open(options).await.unwrap_err().to_string();
    assert!(error.contains("write type: cockroachdb"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_drifts_is_told() {
    let roach = Roach::start().await;
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let options = SqlOptions {
        clock: clock.clone(),
        ..SqlOptions::new(Engine::CockroachDb, &roach.url()).unwrap()
    };
    let store = Sql::open(options).await.unwrap();
    store.health().await.unwrap();
    clock.advance(Duration::from_secs(60));
    let error = store.health().await.unwrap_err().to_string();
    assert!(error.contains("s from this machine's; set both by NTP"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_are_set_and_reported() {
    let roach = Roach::start().await;
    let store = open(&roach).await;
    let conn: ConnString = roach.url().parse().unwrap();
    let regions = Regions {
        primary: "us-east1".into(),
        others: vec!["us-west1".into(), "europe-west1".into()],
        secondary: Some("us-west1".into()),
        survive: Survive::Region,
    };
    let mut told = Vec::new();
    regions.apply(&conn, |text| told.push(text.to_owned())).await.unwrap();
    assert_eq!(told, regions.statements("defaultdb"));
    assert!(told.iter().all(|text| roach.said().contains(text)), "{:?}", roach.said());
    // One that the cluster does not have changes nothing.
    let mut strange = regions.clone();
    strange.others.push("mars".into());
    let error = strange.apply(&conn, |_| panic!("nothing is done")).await.unwrap_err().to_string();
    assert!(error.contains("has no region mars") && error.contains("us-west1"), "{error}");

    store.put(item("/a", "1")).await.unwrap();
    let report = store.report().await.unwrap();
    assert_eq!(report.rows, Some(1));
    assert!(report.schema_version >= Some(1));
    assert_eq!(report.survival_goal.as_deref(), Some("region"));
    let names: Vec<_> = report.regions.iter().map(|region| region.name.as_str()).collect();
    assert_eq!(names, ["us-east1", "europe-west1", "us-west1"]);
    assert!(report.regions[0].primary && report.regions[2].secondary);
    // A user who may not see them sees the rest.
    roach.faults.no_admin.store(true, Ordering::SeqCst);
    let without = store.report().await.unwrap();
    assert!(without.regions.is_empty() && without.rows == Some(1), "{without:?}");
    let error = regions.apply(&conn, |_| panic!("nothing is done")).await.unwrap_err().to_string();
    assert!(error.contains("only users with the admin role"), "{error}");
    assert!(report.feed_lag_ms.unwrap() < 5000 && report.version.unwrap().contains("CockroachDB"));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_lists_are_read_nearby_and_events_expire_by_the_table() {
    let roach = Roach::start().await;
    let options = SqlOptions {
        max_clock_skew: None,
        event_retention: Retention::For(Duration::from_secs(90 * 86_400)),
        ttl_job_cron: "5 4 * * *".into(),
        ..SqlOptions::new(Engine::CockroachDb, &roach.url()).unwrap()
    };
    let store = Sql::open(options).await.unwrap();
    store.put(item("/a", "1")).await.unwrap();
    // Where the tables are not yet so old, what is there now; of other errors nothing is hidden.
    *roach.faults.nearby.lock().unwrap() = Some("42P01");
    let page = store.range_lately(&access_backend::KeyRange::all(), 10, None).await.unwrap();
    assert_eq!(page.items.len(), 1);
    store.append(vec![event()]).await.unwrap();
    let past = EventQuery { to: Some(UnixMillis(2)), limit: 10, ..EventQuery::default() };
    assert_eq!(store.search(&past).await.unwrap().events.len(), 1);
    *roach.faults.nearby.lock().unwrap() = Some("XX000");
    let error = store.range_lately(&access_backend::KeyRange::all(), 10, None).await.unwrap_err();
    assert!(error.to_string().contains("no such copy"), "{error}");
    let error = store.search(&past).await.unwrap_err();
    assert!(error.to_string().contains("no such copy"), "{error}");
    *roach.faults.nearby.lock().unwrap() = None;
    let page = store.range_lately(&access_backend::KeyRange::all(), 10, None).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(store.search(&past).await.unwrap().events.len(), 1);
    let said = roach.said();
    let heard = |part: &str| said.iter().any(|text| text.contains(part));
    for table in ["kv", "events", "event_blocks"] {
        let text = format!("FROM {table} AS OF SYSTEM TIME follower_read_timestamp() WHERE");
        assert!(heard(&text), "{said:?}");
    }
    assert!(heard("INTERVAL ''90 days''") && heard("ttl_job_cron = '5 4 * * *'"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_events_are_kept_is_set_left_and_lifted() {
    let roach = Roach::start().await;
    let opened = async |event_retention, cron: &str| {
        let before = roach.said().len();
        let options = SqlOptions {
            max_clock_skew: None,
            event_retention,
            ttl_job_cron: cron.into(),
            ..SqlOptions::new(Engine::CockroachDb, &roach.url()).unwrap()
        };
        Sql::open(options).await.unwrap().close().await.unwrap();
        let mut said = roach.said().split_off(before);
        said.retain(|text| text.starts_with("ALTER TABLE"));
        said
    };
    let year = Retention::For(Duration::from_secs(365 * 86_400));
    let said = opened(year, "5 4 * * *").await;
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(said[0], "ALTER TABLE kv SET (ttl_job_cron = '5 4 * * *')");
    assert!(opened(year, "5 4 * * *").await.is_empty());
    // A tool beside the service changes nothing.
    assert!(opened(Retention::AsItIs, "*/20 * * * *").await.is_empty());
    // One that ends like the other is another.
    let said = opened(year, "15 4 * * *").await;
    assert!(said.len() == 3 && said[0].contains("kv SET (ttl_job_cron = '15 4"), "{said:?}");
    let said = opened(Retention::Forever, "15 4 * * *").await;
    assert_eq!(said, ["ALTER TABLE events RESET (ttl)", "ALTER TABLE event_blocks RESET (ttl)"]);
    assert!(opened(Retention::Forever, "15 4 * * *").await.is_empty());
}
