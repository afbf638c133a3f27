//! The SQLite engine passes the suite, and what is its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use access_backend::conformance::{run, run_events};
use access_backend::{
    Backend, Batch, Capabilities, Clock, Error, EventStore, Key, KeyRange, ManualClock, NewItem,
    Operation, Prefix, Sqlite, SqliteOptions, StoredEvent, UnixMillis, Value, WatchEvent,
};
use tempfile::TempDir;

/// The suite keeps no handle to a store's directory, so those of a process lie together, named after it, and go when
/// a later run finds that it has ended.
fn scratch() -> TempDir {
    static MINE: OnceLock<PathBuf> = OnceLock::new();
    let mine = MINE.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sqlite-suite");
        std::fs::create_dir_all(&all).unwrap();
        for old in std::fs::read_dir(&all).unwrap().flatten() {
            if !Path::new("/proc").join(old.file_name()).exists() {
                // Another process may be at it.
                let _gone = std::fs::remove_dir_all(old.path());
            }
        }
        let mine = all.join(std::process::id().to_string());
        std::fs::create_dir_all(&mine).unwrap();
        mine
    });
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir_in(mine).unwrap()
}

async fn fresh(clock: Arc<dyn Clock>) -> Arc<Sqlite> {
    let dir = scratch().keep();
    let options = SqliteOptions { clock, ..options(&dir) };
    Arc::new(Sqlite::open(options).await.unwrap())
}

mod rows {
    access_backend::conformance_tests!(super::fresh);
}

mod events {
    access_backend::event_conformance_tests!(super::fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_suite_is_one_call() {
    run(fresh).await;
    run_events(fresh).await;
}

/// A directory for its owner alone, as a store wants it.
fn private_dir() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn options(dir: &Path) -> SqliteOptions {
    SqliteOptions::new(dir.join("state.db"))
}

fn key(path: &str) -> Key {
    Key::parse(path).unwrap()
}

fn item(path: &str, value: &str) -> NewItem {
    NewItem::new(key(path), Value::new(value.to_owned()).unwrap())
}

#[tokio::test]
async fn everything_is_there_after_closing_and_opening() {
    let dir = private_dir();
    let store = Sqlite::open(options(dir.path())).await.unwrap();
    assert_eq!(store.capabilities(), Capabilities::new("sqlite", true, false));
    let first = store.put(item("/a", "1")).await.unwrap();
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    watch.next().await.unwrap().unwrap();
    let Some(Ok(WatchEvent::Ready(position))) = watch.next().await else { panic!("not ready") };
    let second = store.put(item("/b", "1")).await.unwrap();
    let event = StoredEvent {
        writer: "w".into(),
        seq: 1,
        time: UnixMillis(1),
        name: "n".into(),
        user: None,
        json: "{}".into(),
    };
    store.append(vec![event.clone()]).await.unwrap();
    store.close().await.unwrap();
    assert!(!dir.path().join("state.db-wal").exists(), "the log was folded into the file");

    let store = Sqlite::open(options(dir.path())).await.unwrap();
    assert_eq!(store.get(&key("/a")).await.unwrap().unwrap().revision, first);
    assert_eq!(store.last_seq("w").await.unwrap(), Some(1));
    assert_eq!(store.append(vec![event]).await.unwrap(), 0);
    // A watch goes on across the restart, and old revisions still count.
    let mut watch = store.watch(&[Prefix::root()], Some(position)).await.unwrap();
    let Some(Ok(WatchEvent::Changed { item: changed, .. })) = watch.next().await else {
        panic!("no change")
    };
    assert_eq!((changed.key, changed.revision), (key("/b"), second));
    store.update(item("/b", "2"), second).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_restored_backup_knows_no_later_token() {
    let dir = private_dir();
    let path = dir.path().join("state.db");
    let store = Sqlite::open(options(dir.path())).await.unwrap();
    store.put(item("/a", "1")).await.unwrap();
    store.close().await.unwrap();
    let backup = std::fs::read(&path).unwrap();

    let store = Sqlite::open(options(dir.path())).await.unwrap();
    let lost = store.put(item("/a", "lost")).await.unwrap();
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    watch.next().await.unwrap().unwrap();
    let Some(Ok(WatchEvent::Ready(position))) = watch.next().await else { panic!("not ready") };
    store.close().await.unwrap();

    std::fs::write(&path, backup).unwrap();
    let store = Sqlite::open(options(dir.path())).await.unwrap();
    store.put(item("/a", "other")).await.unwrap();
    assert!(matches!(
        store.update(item("/a", "2"), lost).await,
        Err(Error::RevisionMismatch { .. })
    ));
    let mut watch = store.watch(&[Prefix::root()], Some(position)).await.unwrap();
    assert_eq!(watch.next().await, Some(Ok(WatchEvent::Reset)));
}

#[tokio::test]
async fn the_change_log_is_bounded() {
    let dir = private_dir();
    let options = SqliteOptions { history: 64, ..options(dir.path()) };
    let store = Sqlite::open(options.clone()).await.unwrap();
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    let Some(Ok(WatchEvent::Ready(start))) = watch.next().await else { panic!("not ready") };
    for number in 0..200 {
        store.put(item("/a", &number.to_string())).await.unwrap();
    }
    store.close().await.unwrap();
    let file = rusqlite::Connection::open(&options.path).unwrap();
    let logged: i64 = file.query_row("SELECT count(*) FROM kv_log", (), |row| row.get(0)).unwrap();
    assert!((64..=64 + 64 / 8 + 1).contains(&logged), "{logged}");
    drop(file);
    let store = Sqlite::open(options).await.unwrap();
    let mut late = store.watch(&[Prefix::root()], Some(start)).await.unwrap();
    assert_eq!(late.next().await, Some(Ok(WatchEvent::Reset)));
}

#[tokio::test]
async fn a_full_buffer_is_a_reset() {
    let dir = private_dir();
    let store =
        Sqlite::open(SqliteOptions { watch_buffer: 3, ..options(dir.path()) }).await.unwrap();
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Ready(_)))));
    for number in 0..4 {
        store.put(item(&format!("/{number}"), "x")).await.unwrap();
    }
    for _ in 0..3 {
        assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Changed { .. }))));
    }
    assert_eq!(watch.next().await, Some(Ok(WatchEvent::Reset)));
}

#[tokio::test]
async fn who_watches_is_told_of_what_is_swept() {
    let dir = private_dir();
    let clock = Arc::new(ManualClock::new(UnixMillis(0)));
    let options = SqliteOptions { clock: clock.clone(), ..options(dir.path()) };
    let store = Sqlite::open(options).await.unwrap();
    let mut batch = Batch::new();
    for number in 0..256 {
        batch =
            batch.then(Operation::Put(item(&format!("/{number}"), "x").expires_at(UnixMillis(1))));
    }
    store.batch(batch).await.unwrap();
    store.put(item("/last", "x").expires_at(UnixMillis(1))).await.unwrap();
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    for _ in 0..=257 {
        watch.next().await.unwrap().unwrap();
    }
    clock.advance(Duration::from_millis(1));
    assert_eq!((store.sweep(256).await.unwrap(), store.sweep(256).await.unwrap()), (256, 1));
    for _ in 0..257 {
        let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap();
        assert!(matches!(event, Some(Ok(WatchEvent::Deleted { .. }))));
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_while_a_snapshot_waits_for_its_reader() {
    let dir = private_dir();
    let store = Sqlite::open(SqliteOptions { readers: 1, ..options(dir.path()) }).await.unwrap();
    let large = Value::new(vec![1; 1024 * 1024]).unwrap();
    for number in 0..50 {
        store.put(NewItem::new(key(&format!("/{number}")), large.clone())).await.unwrap();
    }
    // Takes one event of more than is read ahead, and then nothing.
    let mut idle = store.watch(&[Prefix::root()], None).await.unwrap();
    idle.next().await.unwrap().unwrap();
    for number in 0..20 {
        store.put(item(&format!("/more/{number}"), "x")).await.unwrap();
        assert!(store.get(&key("/0")).await.unwrap().is_some());
    }
    assert_eq!(
        store
            .range(&KeyRange::from(Prefix::parse("/more").unwrap()), 100, None)
            .await
            .unwrap()
            .items
            .len(),
        20
    );
    // Neither does it hold up the end.
    tokio::time::timeout(Duration::from_secs(5), store.close()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_store_finishes_what_it_accepted() {
    let dir = private_dir();
    let store = Arc::new(Sqlite::open(options(dir.path())).await.unwrap());
    let writers: Vec<_> = (0..64)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.put(item(&format!("/{number}"), "x")).await })
        })
        .collect();
    store.put(item("/one", "x")).await.unwrap();
    store.close().await.unwrap();
    let mut written = vec![key("/one")];
    for (number, writer) in writers.into_iter().enumerate() {
        match writer.await.unwrap() {
            Ok(_) => written.push(key(&format!("/{number}"))),
            Err(error) => assert_eq!(error, Error::Closed),
        }
    }
    let again = Sqlite::open(options(dir.path())).await.unwrap();
    let rows = access_backend::read_all(&again, &KeyRange::all(), 100).await.unwrap();
    let mut found: Vec<Key> = rows.into_iter().map(|row| row.key).collect();
    found.sort();
    written.sort();
    assert_eq!(found, written);
}

#[tokio::test]
async fn it_tells_how_it_is_and_deletes_old_events_when_told_to() {
    let dir = scratch();
    let day = Duration::from_secs(86_400);
    let options = SqliteOptions { event_ttl: Some(day * 7), ..options(dir.path()) };
    let store = Sqlite::open(options).await.unwrap();
    let now = access_backend::SystemClock.now();
    let event = |seq: u64, time| access_backend::StoredEvent {
        writer: "w".into(),
        seq,
        time,
        name: "n".into(),
        user: None,
        json: "{}".into(),
    };
    let old = (1..=600).map(|seq| event(seq, now.minus(day * 8)));
    store.append(old.chain([event(601, now.minus(day * 6))]).collect()).await.unwrap();
    let all = access_backend::EventQuery { limit: 1000, ..Default::default() };
    assert_eq!(store.search(&all).await.unwrap().events.len(), 601);
    while store.delete_before(now.minus(day * 7), 256).await.unwrap() > 0 {}
    assert_eq!(store.search(&all).await.unwrap().events.len(), 1);
    let report = store.report().await.unwrap();
    assert_eq!((report.rows, report.event_days), (Some(0), Some(7)));
    assert!(report.schema_version >= Some(1));
}
