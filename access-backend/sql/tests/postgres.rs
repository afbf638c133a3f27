//! The store over PostgreSQL itself passes the suite, also while its connections are cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use access_backend::conformance::{run, run_events, run_one};
use access_backend::{
    Backend, Batch, Capabilities, Clock, Condition, Error, EventStore, KeyRange, ManualClock,
    Operation, Position, Prefix, StoredEvent, SystemClock, UnixMillis, Watch, WatchEvent,
};
use access_backend_sql::{Engine, Sql, SqlOptions};
use common::cutter::Cutter;
use common::{Server, fresh, item, key, open, options, url};

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn the_suite() {
    let server = Server::start();
    run(move |clock| fresh(server.clone(), clock)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_events() {
    let server = Server::start();
    run_events(move |clock| fresh(server.clone(), clock)).await;
}

#[test]
fn histories_are_linearizable_while_connections_are_cut() {
    let server = Server::start();
    let cutter = Arc::new(Cutter::start(server.port));
    let stores: Arc<Mutex<Vec<Arc<Sql>>>> = Arc::default();
    for check in [
        "concurrent_operations_on_one_key_are_linearizable",
        "concurrent_batches_are_linearizable",
        "counting_by_revision_loses_nothing",
        "clients_that_are_killed_leave_whole_operations",
    ] {
        let (server, cutter, stores) = (server.clone(), cutter.clone(), stores.clone());
        run_one(check, move |clock: Arc<dyn Clock>| {
            let (server, cutter, stores) = (server.clone(), cutter.clone(), stores.clone());
            async move {
                cutter.allow_all();
                let database = server.database();
                let options = SqlOptions {
                    clock,
                    max_clock_skew: None,
                    patience: Duration::from_secs(30),
                    ..options(&url(cutter.port, &database))
                };
                let store = Arc::new(Sql::open(options).await.unwrap());
                // From here on no connection lasts: few statements, and then an end in the middle of something.
                cutter.allow(2500, 6000);
                cutter.cut();
                stores.lock().unwrap().push(store.clone());
                store
            }
        });
    }
    let stats: Vec<_> = stores.lock().unwrap().iter().map(|store| store.stats()).collect();
    let lost: u64 = stats.iter().map(|stats| stats.lost).sum();
    let resolved: u64 = stats.iter().map(|stats| stats.resolved).sum();
    eprintln!("{} cuts, {lost} writes open, {resolved} of them committed", cutter.cuts());
    assert!(lost > 20 && resolved > 0, "the cuts hit writes: {lost} and {resolved}");
    assert!(stats.iter().all(|stats| stats.unresolved == 0), "each was found, or found missing");
}

/// A session beside the store's.
async fn connect(url: &str) -> tokio_postgres::Client {
    let url = url.split("&pool_max_conns").next().unwrap();
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
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

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_one_store() {
    let server = Server::start();
    let url = server.url(&server.database());
    let (one, other) = (open(&url).await, open(&url).await);
    assert_eq!(one.capabilities(), Capabilities::new("postgres", true, true));
    let mut watch = other.watch(&[Prefix::root()], None).await.unwrap();
    let (_, start) = until_ready(&mut watch).await;
    let revision = one.create(item("/a", "1")).await.unwrap();
    assert_eq!(changed(&next(&mut watch).await), "/a");
    other.update(item("/a", "2"), revision).await.unwrap();
    assert!(matches!(
        one.update(item("/a", "3"), revision).await,
        Err(Error::RevisionMismatch { .. })
    ));
    // A position of the one process is one of the other.
    let mut again = one.watch(&[Prefix::root()], Some(start)).await.unwrap();
    let (events, _) = until_ready(&mut again).await;
    assert_eq!(events.iter().map(changed).collect::<Vec<_>>(), ["/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_start_at_once_on_an_empty_database() {
    let server = Server::start();
    let url = server.url(&server.database());
    let starting: Vec<_> = (0..8)
        .map(|number| {
            let url = url.clone();
            tokio::spawn(async move {
                let store = open(&url).await;
                store.put(item(&format!("/{number}"), "x")).await.unwrap();
                store
            })
        })
        .collect();
    for store in futures::future::join_all(starting).await {
        store.unwrap().close().await.unwrap();
    }
    let store = open(&url).await;
    assert_eq!(store.range(&KeyRange::all(), 100, None).await.unwrap().items.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_transaction_does_not_hold_changes_back() {
    let server = Server::start();
    let (mine, other) = (server.database(), server.database());
    let store = open(&server.url(&mine)).await;
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    until_ready(&mut watch).await;
    // It has a number and keeps it, one in another database and one in ours.
    for database in [&other, &mine] {
        let client = connect(&server.url(database)).await;
        client
            .batch_execute("CREATE TABLE t (i int); BEGIN; INSERT INTO t VALUES (1)")
            .await
            .unwrap();
        let began = std::time::Instant::now();
        for number in 0..5 {
            store.put(item(&format!("/{number}"), "x")).await.unwrap();
            assert_eq!(changed(&next(&mut watch).await), format!("/{number}"));
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        // Somebody who begins now sees them, and goes on from there without a gap.
        let mut late = store.watch(&[Prefix::root()], None).await.unwrap();
        let (events, ready) = until_ready(&mut late).await;
        assert_eq!(events.len(), 5);
        store.put(item("/late", "x")).await.unwrap();
        assert_eq!(changed(&next(&mut late).await), "/late");
        assert_eq!(changed(&next(&mut watch).await), "/late");
        let mut resumed = store.watch(&[Prefix::root()], Some(ready)).await.unwrap();
        let (events, _) = until_ready(&mut resumed).await;
        assert!(events.iter().any(|event| changed(event) == "/late"), "{events:?}");
        client.batch_execute("ROLLBACK").await.unwrap();
        store.delete(&key("/late")).await.unwrap();
        assert!(matches!(next(&mut watch).await, WatchEvent::Deleted { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_not_done_is_waited_for() {
    let server = Server::start();
    let database = server.database();
    let store = open(&server.url(&database)).await;
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    let (_, ready) = until_ready(&mut watch).await;
    let client = connect(&server.url(&database)).await;
    // As another process of ours would, stopped before its commit.
    client
        .batch_execute(
            "BEGIN; INSERT INTO kv VALUES ('/early', 'x', NULL, gen_random_uuid());
             INSERT INTO kv_log (ord, key, value, revision)
             VALUES (1, '/early', 'x', gen_random_uuid())",
        )
        .await
        .unwrap();
    store.put(item("/later", "x")).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(400), watch.next()).await;
    assert!(early.is_err(), "{early:?} before what may come to stand before it");
    let lag = store.report().await.unwrap().feed_lag_ms.unwrap();
    assert!(lag >= 200, "{lag} ms, while something is held back");
    // A snapshot shows what is committed, and a position from it leads past nothing.
    let mut between = store.watch(&[Prefix::root()], Some(ready)).await.unwrap();
    let (events, resumable) = until_ready(&mut between).await;
    assert_eq!(events.iter().map(changed).collect::<Vec<_>>(), ["/later"]);
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(changed(&next(&mut watch).await), "/early");
    assert_eq!(changed(&next(&mut watch).await), "/later");
    assert_eq!(changed(&next(&mut between).await), "/early");
    let mut resumed = store.watch(&[Prefix::root()], Some(resumable)).await.unwrap();
    let (events, _) = until_ready(&mut resumed).await;
    assert!(events.iter().any(|event| changed(event) == "/early"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_go_on_after_the_database_was_away() {
    let server = Server::start();
    let cutter = Cutter::start(server.port);
    let url = url(cutter.port, &server.database());
    let store = open(&url).await;
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    until_ready(&mut watch).await;
    for round in 0..3 {
        cutter.close(true);
        let writing = tokio::spawn({
            let store = store.clone();
            async move { store.put(item(&format!("/{round}"), "x")).await }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        cutter.close(false);
        writing.await.unwrap().unwrap();
        assert_eq!(changed(&next(&mut watch).await), format!("/{round}"));
    }
    // The same with a database that was killed and came back.
    server.stop();
    let reading = tokio::spawn({
        let store = store.clone();
        async move { store.get(&key("/0")).await }
    });
    tokio::task::block_in_place(|| server.start_again());
    assert!(reading.await.unwrap().unwrap().is_some());
    store.put(item("/back", "x")).await.unwrap();
    assert_eq!(changed(&next(&mut watch).await), "/back");
    store.health().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_past_the_end_of_the_log_is_reset() {
    let server = Server::start();
    let database = server.database();
    let options = SqlOptions { history: 64, ..options(&server.url(&database)) };
    let store = Arc::new(Sql::open(options).await.unwrap());
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    let (_, start) = until_ready(&mut watch).await;
    store.put(item("/soon", "x").expires_at(UnixMillis(1))).await.unwrap();
    for number in 0..200 {
        store.put(item("/a", &number.to_string())).await.unwrap();
    }
    // As two replicas would that take each other for gone.
    let (one, other) = tokio::join!(store.sweep(256), store.sweep(256));
    assert_eq!(one.unwrap() + other.unwrap(), 1);
    let mut seen = 0;
    while seen < 202 {
        // The row that had expired was swept meanwhile.
        match next(&mut watch).await {
            WatchEvent::Changed { .. } | WatchEvent::Deleted { .. } => seen += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.sweep(256).await.unwrap(), 0);
    let logged: i64 = server.sql(&database, "SELECT count(*) FROM kv_log").parse().unwrap();
    assert!(logged <= 64, "{logged} changes are kept");
    let mut late = store.watch(&[Prefix::root()], Some(start)).await.unwrap();
    assert_eq!(next(&mut late).await, WatchEvent::Reset);
    store.put(item("/a", "end")).await.unwrap();
    assert_eq!(changed(&next(&mut watch).await), "/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_dump_knows_no_later_token() {
    let server = Server::start();
    let (from, to) = (server.database(), server.database());
    let store = open(&server.url(&from)).await;
    store.put(item("/a", "1")).await.unwrap();
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    let (_, position) = until_ready(&mut watch).await;
    store.close().await.unwrap();
    // As if it came from a server that had counted further.
    server.sql(&from, "UPDATE kv_log SET xid = xid + 1000000");
    server.sql("postgres", &format!("DROP DATABASE {to}"));
    server.sql("postgres", &format!("CREATE DATABASE {to} TEMPLATE {from}"));
    let store = open(&server.url(&to)).await;
    assert!(store.get(&key("/a")).await.unwrap().is_some());
    let mut watch = store.watch(&[Prefix::root()], Some(position)).await.unwrap();
    assert_eq!(next(&mut watch).await, WatchEvent::Reset);
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    until_ready(&mut watch).await;
    store.put(item("/b", "1")).await.unwrap();
    assert_eq!(changed(&next(&mut watch).await), "/b");
}

#[tokio::test(flavor = "multi_thread")]
async fn absence_counts_until_the_end_of_a_batch() {
    let server = Server::start();
    let database = server.database();
    let store = open(&server.url(&database)).await;
    // Each of the two demands that the other has not happened; only one may.
    for round in 0..60 {
        let (a, b) = (format!("/a/{round}"), format!("/b/{round}"));
        let demand = |absent: &str, put: &str| {
            Batch::new().when(Condition::absent(key(absent))).then(Operation::Put(item(put, "x")))
        };
        let (one, other) = tokio::join!(store.batch(demand(&a, &b)), store.batch(demand(&b, &a)));
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }
    // Nor may one delete pass by a row that was made meanwhile.
    let left = "SELECT count(*) FROM kv WHERE expires IS NOT NULL";
    assert_eq!(server.sql(&database, left), "0", "nothing is left of the rows that held the place");
    for refused in [
        Batch::new()
            .when(Condition::present(key("/none")))
            .then(Operation::Delete(key("/also-none"))),
        Batch::new()
            .when(Condition::absent(key("/none")))
            .when(Condition::present(key("/nor-this")))
            .then(Operation::Put(item("/c", "x"))),
    ] {
        assert!(matches!(store.batch(refused).await, Err(Error::ConditionFailed { .. })));
    }
    assert_eq!(server.sql(&database, left), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_counts_until_the_end_of_a_batch() {
    let server = Server::start();
    let database = server.database();
    let store = open(&server.url(&database)).await;
    let revision = store.put(item("/a", "1")).await.unwrap();
    let client = connect(&server.url(&database)).await;
    client.batch_execute("BEGIN; DELETE FROM kv WHERE key = '/a'").await.unwrap();
    let batch = Batch::new()
        .when(Condition::revision(key("/a"), revision))
        .then(Operation::Put(item("/a", "2")));
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.batch(batch).await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let until = std::time::Instant::now() + DEADLINE;
    while server.sql(&database, waiting) == "0" {
        assert!(std::time::Instant::now() < until, "nobody waits");
        tokio::task::yield_now().await;
    }
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(writing.await.unwrap(), Err(Error::ConditionFailed { index: 0 }));
    assert_eq!(store.get(&key("/a")).await.unwrap(), None);
    assert!(store.stats().retries > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_up_wrong_is_said() {
    let server = Server::start();
    let database = server.database();
    let good = server.url(&database);
    let said = async |engine, url: &str| {
        let mut options = SqlOptions::new(engine, url).unwrap();
        options.patience = Duration::from_millis(300);
        Sql::open(options).await.unwrap_err().to_string()
    };
    let error = said(Engine::CockroachDb, &good).await;
    assert!(
        error.starts_with("storage.type: ") && error.contains("write type: postgres"),
        "{error}"
    );
    let error = said(Engine::Postgres, &server.url("nowhere")).await;
    assert!(error.contains("CREATE DATABASE nowhere"), "{error}");
    let error = said(Engine::Postgres, &good.replace("sslmode=disable", "sslmode=require")).await;
    assert!(error.contains("speaks no TLS"), "{error}");
    let error = said(Engine::Postgres, &good.replace("postgres@", "nobody@")).await;
    assert!(error.contains("refuses the user nobody"), "{error}");
    let error = said(Engine::Postgres, &url(1, "x")).await;
    assert!(error.contains("unavailable") && error.contains("127.0.0.1:1"), "{error}");

    server.sql("postgres", "CREATE ROLE poor LOGIN");
    let error = said(Engine::Postgres, &good.replace("postgres@", "poor@")).await;
    assert!(error.contains("GRANT ALL ON"), "{error}");

    let clock = Arc::new(ManualClock::new(UnixMillis(SystemClock.now().0 - 60_000)));
    let skewed = SqlOptions { clock: clock.clone(), ..common::options(&good) };
    let error = Sql::open(skewed.clone()).await.unwrap_err().to_string();
    assert!(error.contains("s from this machine's; set both by NTP"), "{error}");
    // One that drifts while the store is open, too.
    clock.set(SystemClock.now());
    let store = Sql::open(skewed).await.unwrap();
    store.health().await.unwrap();
    clock.advance(Duration::from_secs(60));
    let error = store.health().await.unwrap_err().to_string();
    assert!(error.contains("s from this machine's; set both by NTP"), "{error}");
    clock.set(SystemClock.now());
    store.health().await.unwrap();
    store.close().await.unwrap();

    // The feed's own way has its own name.
    let options = SqlOptions {
        feed_conn: Some(good.replace("postgres@", "nobody@").parse().unwrap()),
        ..common::options(&good)
    };
    let error = Sql::open(options).await.unwrap_err().to_string();
    assert!(error.starts_with("storage.change_feed_conn_string: "), "{error}");

    open(&good).await.close().await.unwrap();
    server.sql(&database, "UPDATE backend_version SET version = 9");
    let error = said(Engine::Postgres, &good).await;
    assert!(error.contains("schema version 9") && error.contains(&database), "{error}");
    server.sql(
        &database,
        "UPDATE backend_version SET version = 1; ALTER TABLE kv DROP COLUMN expires",
    );
    let error = said(Engine::Postgres, &good).await;
    assert!(error.contains("kv has no column expires"), "{error}");

    let foreign = server.database();
    server.sql(&foreign, "CREATE TABLE kv (k int)");
    let error = said(Engine::Postgres, &server.url(&foreign)).await;
    assert!(error.contains("another program"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_not_taken_for_the_store() {
    let server = Server::start();
    let url = server.url(&server.database());
    open(&url).await.put(item("/a", "1")).await.unwrap();
    let standby = tokio::task::block_in_place(|| server.standby());
    let ports = [standby.port.to_string(), server.port.to_string()];
    let alone = url.replace(&ports[1], &ports[0]);
    let error = Sql::open(options(&alone)).await.unwrap_err().to_string();
    assert!(error.starts_with("storage.conn_string: "), "{error}");
    assert!(error.contains("a read-only replica") && error.contains("read-write"), "{error}");
    // With both of them named, the one that takes writes is found.
    let both = alone.replacen(
        &format!("127.0.0.1:{}", ports[0]),
        &format!("127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1]),
        1,
    ) + "&target_session_attrs=read-write";
    open(&both).await.put(item("/a", "2")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_is_named() {
    let server = Server::start();
    let database = server.database();
    let url = server.url(&database).replace("pool_max_conns=10", "pool_max_conns=2");
    let mut options = options(&url);
    options.patience = Duration::from_millis(500);
    let store = Arc::new(Sql::open(options).await.unwrap());
    store.put(item("/a", "1")).await.unwrap();
    let client = connect(&url).await;
    client.batch_execute("BEGIN; LOCK TABLE kv IN EXCLUSIVE MODE").await.unwrap();
    let stuck: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.put(item("/a", "2")).await })
        })
        .collect();
    let error = loop {
        match store.get(&key("/a")).await {
            Err(error) => break error.to_string(),
            Ok(_) => tokio::task::yield_now().await,
        }
    };
    assert!(error.contains("raise pool_max_conns"), "{error}");
    client.batch_execute("ROLLBACK").await.unwrap();
    for task in stuck {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_cut_off_is_told_with_what_to_look_at() {
    let server = Server::start();
    let database = server.database();
    let url = server.url(&database);
    let options = SqlOptions { patience: Duration::from_secs(1), ..options(&url) };
    let store = Arc::new(Sql::open(options).await.unwrap());
    store.put(item("/a", "1")).await.unwrap();
    let client = connect(&url).await;
    client.batch_execute("BEGIN; LOCK TABLE kv IN EXCLUSIVE MODE").await.unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.put(item("/a", "2")).await }
    });
    // As the server does when its time is over, again and again: one answer would be tried once more.
    let cancel =
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let until = Instant::now() + DEADLINE;
    while !writing.is_finished() {
        assert!(Instant::now() < until, "it is tried for ever");
        client.batch_execute(cancel).await.unwrap();
        tokio::task::yield_now().await;
    }
    let error = writing.await.unwrap().unwrap_err().to_string();
    for part in ["canceling statement", "a statement has 30 s", "storage.conn_string"] {
        assert!(error.contains(part), "{error}");
    }
    client.batch_execute("ROLLBACK").await.unwrap();
    store.put(item("/a", "3")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_wakes_the_feed_of_another_process() {
    let server = Server::start();
    let url = server.url(&server.database());
    // Without one, it would look only after longer than this test waits.
    let options = SqlOptions { poll_every: DEADLINE * 3, ..options(&url) };
    let (one, other) = (open(&url).await, Sql::open(options).await.unwrap());
    let mut watch = other.watch(&[Prefix::root()], None).await.unwrap();
    until_ready(&mut watch).await;
    for number in 0..10 {
        one.put(item(&format!("/{number}"), "x")).await.unwrap();
        assert_eq!(changed(&next(&mut watch).await), format!("/{number}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_events_writer_in_two_processes() {
    let server = Server::start();
    let url = server.url(&server.database());
    let (one, other) = (open(&url).await, open(&url).await);
    let event = |seq| StoredEvent {
        writer: "w".into(),
        seq,
        time: UnixMillis(seq as i64),
        name: "n".into(),
        user: None,
        json: "{}".into(),
    };
    let appending: Vec<_> = (0..40)
        .map(|number| {
            let store = if number % 2 == 0 { one.clone() } else { other.clone() };
            let events = (number..number + 10).map(event).collect();
            tokio::spawn(async move { store.append(events).await.unwrap() })
        })
        .collect();
    let mut new = 0;
    for task in appending {
        new += task.await.unwrap();
    }
    assert_eq!(new, 49);
    assert_eq!(one.last_seq("w").await.unwrap(), Some(48));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_how_it_is_and_who_else_is_there() {
    let server = Server::start();
    let url = server.url(&server.database());
    let named = |name: &str| {
        let options = options(&url);
        SqlOptions { conn: options.conn.clone().named(name), ..options }
    };
    let one = Sql::open(named("one")).await.unwrap();
    one.put(item("/a", "1")).await.unwrap();
    let report = one.report().await.unwrap();
    assert_eq!(report.rows, Some(1));
    assert!(report.schema_version >= Some(1));
    assert!(report.version.unwrap().starts_with("PostgreSQL 1") && report.regions.is_empty());
    assert!(report.latency_us.unwrap() < 1_000_000 && report.feed_lag_ms.unwrap() < 10_000);
    assert_eq!(one.others().await.unwrap(), Vec::<String>::new());
    let other = Sql::open(named("two'; --")).await.unwrap();
    let others = one.others().await.unwrap();
    assert!(
        !others.is_empty() && others.iter().all(|other| other.starts_with("two-- from ")),
        "{others:?}"
    );
    other.close().await.unwrap();
    drop(other);
    let until = Instant::now() + Duration::from_secs(20);
    while !one.others().await.unwrap().is_empty() {
        assert!(Instant::now() < until, "it never goes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
