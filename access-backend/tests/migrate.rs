//! Moving a store from one engine to another, and back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "common/moving.rs"]
mod moving;

use std::sync::Arc;

use access_backend::migrate::{Migration, Place, undo};
use access_backend::{
    Backend, Error, EventStore, ManualClock, Memory, MemoryOptions, Sqlite, SqliteOptions,
    UnixMillis,
};
use moving::*;

fn memory(name: &str, clock: &Arc<ManualClock>) -> Place {
    let options = MemoryOptions { clock: clock.clone(), ..MemoryOptions::default() };
    Place::new(Arc::new(Memory::new(options)), name)
}

fn sqlite_options(dir: &tempfile::TempDir, clock: &Arc<ManualClock>) -> SqliteOptions {
    SqliteOptions { clock: clock.clone(), ..SqliteOptions::new(dir.path().join("data/state.db")) }
}

async fn sqlite(dir: &tempfile::TempDir, clock: &Arc<ManualClock>) -> Arc<Sqlite> {
    Arc::new(Sqlite::open(sqlite_options(dir, clock)).await.unwrap())
}

async fn refused(from: &Place, to: &Place, clock: &Arc<ManualClock>) -> String {
    Migration::begin(from, to, options(clock)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn there_and_back() {
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let from = memory("memory", &clock);
    fill(&from, "example.com").await;
    let to = Place::new(sqlite(&dir, &clock).await, "sqlite");
    let moved = move_it(&from, &to, &clock).await;

    // Life goes on there; then all of it comes back, where the old rows still are.
    clock.advance(std::time::Duration::from_secs(120));
    to.backend.put(item("/nodes/00007", "of the second")).await.unwrap();
    to.backend.delete(&key("/nodes/00008")).await.unwrap();
    to.events.append(vec![event("spool", EVENTS + 1, 9)]).await.unwrap();
    // Retention has deleted the oldest.
    while to.events.delete_before(UnixMillis(NOW.0), 100).await.unwrap() > 0 {}
    let back = Migration::begin(&to, &from, options(&clock)).await.unwrap();
    assert!(!back.resumed());
    back.copy(&to, None).await.unwrap();
    let again = back.finish(&to).await.unwrap();
    same(&to, &from).await;
    assert_ne!(again.rows, moved.rows);
    assert_eq!(again.events.count, moved.events.count + 1 - 5);
}

#[tokio::test]
async fn what_was_cut_off_goes_on() {
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let from = memory("memory", &clock);
    fill(&from, "example.com").await;
    let to = Place::new(sqlite(&dir, &clock).await, "sqlite");
    crash_everywhere(&from, &to, &clock).await;
}

#[tokio::test]
async fn a_file_that_another_process_has_is_read_beside_it() {
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let owner = sqlite(&dir, &clock).await;
    let own = Place::new(owner.clone(), "sqlite");
    fill(&own, "example.com").await;
    let reader = Sqlite::open_to_read(sqlite_options(&dir, &clock)).await.unwrap();
    let error = reader.put(item("/a", "1")).await.unwrap_err();
    assert!(error.to_string().contains("opened to be read"), "{error}");
    assert!(reader.append(vec![event("w", 1, 1)]).await.is_err());
    assert!(reader.watch(&[access_backend::Prefix::root()], None).await.is_err());
    let reader = Place::new(Arc::new(reader), "sqlite");
    let to = memory("memory", &clock);
    let migration = Migration::begin(&reader, &to, options(&clock)).await.unwrap();
    migration.copy(&reader, None).await.unwrap();
    own.backend.put(item("/nodes/more", "x")).await.unwrap();
    assert_eq!(migration.copy(&reader, None).await.unwrap().rows_written, 1);
    // The process ends, and the file is this one's.
    owner.close().await.unwrap();
    drop((own, owner));
    let own = Place::new(sqlite(&dir, &clock).await, "sqlite");
    migration.finish(&own).await.unwrap();
    same(&own, &to).await;
    // One that is not there is not made.
    let nowhere = SqliteOptions::new(dir.path().join("data/other.db"));
    assert!(Sqlite::open_to_read(nowhere).await.is_err());
    assert!(!dir.path().join("data/other.db").exists());
}

#[tokio::test]
async fn each_wrong_use_is_told() {
    let clock = clock();
    let (one, other, empty) =
        (memory("one", &clock), memory("other", &clock), memory("empty", &clock));
    assert!(refused(&one, &one, &clock).await.contains("both sides are one"));
    assert!(refused(&one, &empty, &clock).await.contains("holds nothing that could be moved"));
    fill(&one, "example.com").await;
    other.backend.put(item("/cluster/cluster", "example.org")).await.unwrap();
    let said = refused(&one, &other, &clock).await;
    assert!(said.contains("another cluster (example.org, not example.com)"), "{said}");
    // A copy of this cluster that nobody moved away may be the one that counts.
    let twin = memory("twin", &clock);
    twin.backend.put(item("/cluster/cluster", "example.com")).await.unwrap();
    assert!(refused(&one, &twin, &clock).await.contains("was not moved away"));
    let strange = memory("strange", &clock);
    strange.backend.put(item("/a", "1")).await.unwrap();
    assert!(refused(&one, &strange, &clock).await.contains("holds something already"));
    let strange = memory("strange", &clock);
    strange.events.append(vec![event("w", 1, 1)]).await.unwrap();
    assert!(refused(&one, &strange, &clock).await.contains("holds something already"));
    // The same store by two names.
    let alias = Place { name: "alias".into(), ..one.clone() };
    assert!(refused(&one, &alias, &clock).await.contains("was not moved away"));

    // Whoever takes it over stops the one before.
    let first = Migration::begin(&one, &empty, options(&clock)).await.unwrap();
    let second = Migration::begin(&one, &empty, options(&clock)).await.unwrap();
    assert!(second.resumed());
    assert!(matches!(first.copy(&one, None).await, Err(Error::ConditionFailed { .. })));
    assert!(refused(&other, &empty, &clock).await.contains("from another store"));
    assert!(refused(&empty, &memory("new", &clock), &clock).await.contains("half a copy of one"));
    second.copy(&one, None).await.unwrap();
    second.finish(&one).await.unwrap();
    let said = refused(&one, &memory("new", &clock), &clock).await;
    assert!(said.contains("was moved to empty"), "{said}");

    // What only the second has is no reason to call them the same.
    let back = Migration::begin(&empty, &one, options(&clock)).await.unwrap();
    one.events.append(vec![event("strange", 1, 3 * 3_600_000)]).await.unwrap();
    let said = back.finish(&empty).await.unwrap_err().to_string();
    assert!(said.contains("1 events that are only in the second"), "{said}");

    assert_eq!(undo(&empty).await.unwrap(), "one");
    access_backend::migrate::check_usable(&*empty.backend).await.unwrap();
    assert!(undo(&empty).await.unwrap_err().to_string().contains("was not moved"));
}
