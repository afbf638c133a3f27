//! Writes to CockroachDB whose connection breaks in the middle of the commit, against the stand-in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use access_backend::{
    Backend, Batch, Condition, Error, KeyRange, Operation, Prefix, Revision, UnixMillis, WatchEvent,
};
use access_backend_sql::{Engine, Sql, SqlOptions};
use common::roach::{Faults, Roach};
use common::{item, key};

const DEADLINE: Duration = Duration::from_secs(30);
/// 2100-01-01.
const LATER: UnixMillis = UnixMillis(4_102_444_800_000);

/// A write of each kind, to a row that is there unless it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    PutNew,
    Put,
    Update,
    KeepAlive,
    KeepAliveIf,
    Batch,
    BatchIf,
    Delete,
    DeleteIf,
    DeleteRange,
    BatchOfDeletes,
}

const KINDS: [Kind; 12] = [
    Kind::Create,
    Kind::PutNew,
    Kind::Put,
    Kind::Update,
    Kind::KeepAlive,
    Kind::KeepAliveIf,
    Kind::Batch,
    Kind::BatchIf,
    Kind::Delete,
    Kind::DeleteIf,
    Kind::DeleteRange,
    Kind::BatchOfDeletes,
];

impl Kind {
    fn makes(self) -> bool {
        matches!(self, Self::Create | Self::PutNew)
    }

    fn only_deletes(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteIf | Self::DeleteRange | Self::BatchOfDeletes)
    }

    fn path(self) -> String {
        format!("/{self:?}/row")
    }

    /// Does it, where the row is of this revision.
    async fn write(self, store: &Sql, is: Revision) -> Result<Option<Revision>, Error> {
        let (path, beside) = (self.path(), format!("/{self:?}/beside"));
        let put = Batch::new()
            .then(Operation::Put(item(&path, "new")))
            .then(Operation::Delete(key(&beside)));
        let deletes =
            Batch::new().then(Operation::Delete(key(&path))).then(Operation::Delete(key(&beside)));
        match self {
            Self::Create => store.create(item(&path, "new")).await.map(Some),
            Self::PutNew | Self::Put => store.put(item(&path, "new")).await.map(Some),
            Self::Update => store.update(item(&path, "new"), is).await.map(Some),
            Self::KeepAlive => store.keep_alive(&key(&path), None, LATER).await.map(Some),
            Self::KeepAliveIf => store.keep_alive(&key(&path), Some(is), LATER).await.map(Some),
            Self::Batch => store.batch(put).await.map(Some),
            Self::BatchIf => {
                store.batch(put.when(Condition::revision(key(&path), is))).await.map(Some)
            }
            Self::Delete => store.delete(&key(&path)).await.map(|()| None),
            Self::DeleteIf => store.delete_if(&key(&path), is).await.map(|()| None),
            Self::DeleteRange => {
                let range = KeyRange::from(Prefix::from_segments([format!("{self:?}")]).unwrap());
                store.delete_range(&range).await.map(|count| {
                    assert_eq!(count, 1);
                    None
                })
            }
            Self::BatchOfDeletes => store.batch(deletes).await.map(|_| None),
        }
    }
}

async fn open(roach: &Roach) -> Arc<Sql> {
    let options = SqlOptions {
        max_clock_skew: None,
        ..SqlOptions::new(Engine::CockroachDb, &roach.url()).unwrap()
    };
    Arc::new(Sql::open(options).await.unwrap())
}

/// A store whose feed is under way.
async fn following(roach: &Roach) -> Arc<Sql> {
    let store = open(roach).await;
    until_it_follows(&store).await;
    store
}

/// What comes with a change has come after something was resolved.
async fn until_it_follows(store: &Sql) {
    let mut watch = store.watch(&[Prefix::root()], None).await.unwrap();
    while !matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Ready(_)) {}
    store.put(item("/begun", "x")).await.unwrap();
    let begun = tokio::time::timeout(DEADLINE, watch.next()).await.expect("in time");
    assert!(matches!(begun, Some(Ok(WatchEvent::Changed { .. }))), "{begun:?}");
}

/// Writes of every kind, each with the fault once. What is judged: whether the revision that was told is there, and
/// whether the write was found rather than done again.
async fn each(fault: fn(&Faults) -> &AtomicU64, judge: fn(Kind, Result<(bool, bool), Error>)) {
    let roach = Roach::start().await;
    let store = following(&roach).await;
    for kind in KINDS {
        let is = match kind.makes() {
            true => Revision::from_bits(0),
            false => store.put(item(&kind.path(), "old")).await.unwrap(),
        };
        let before = store.stats();
        fault(&roach.faults).store(1, Ordering::SeqCst);
        let told = kind.write(&store, is).await;
        assert_eq!(store.stats().lost, before.lost + 1, "{kind:?}");
        let resolved = store.stats().resolved > before.resolved;
        let found = store.get(&key(&kind.path())).await.unwrap();
        let found = found.map(|item| item.revision);
        judge(kind, told.map(|revision| (revision == found, resolved)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_is_written_again() {
    each(
        |faults| &faults.cuts_before_commit,
        |kind, told| assert_eq!(told, Ok((true, false)), "{kind:?}"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_found() {
    each(|faults| &faults.cuts_after_commit, found_or_open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_commits_that_lives_on_is_waited_for() {
    each(|faults| &faults.late_commits, found_or_open).await;
}

/// Of a delete nobody can say whose it was.
fn found_or_open(kind: Kind, told: Result<(bool, bool), Error>) {
    match kind.only_deletes() {
        false => assert_eq!(told, Ok((true, true)), "{kind:?}"),
        true => {
            let error = told.expect_err("nothing proves it").to_string();
            assert!(error.contains("read again to see whether it happened"), "{kind:?}: {error}");
        }
    }
}

/// What comes of a write that is lost while another process writes the same row.
async fn overwritten(
    fault: fn(&Faults) -> &AtomicU64,
    kind: Kind,
) -> (Result<bool, Error>, Arc<Sql>) {
    let roach = Roach::start().await;
    let (store, other) = (following(&roach).await, open(&roach).await);
    let is = store.put(item(&kind.path(), "old")).await.unwrap();
    // The session is not gone before the other one has written.
    roach.faults.sessions_stay.store(true, Ordering::SeqCst);
    fault(&roach.faults).store(1, Ordering::SeqCst);
    let writing = tokio::spawn({
        let store = store.clone();
        async move { kind.write(&store, is).await }
    });
    let until = std::time::Instant::now() + DEADLINE;
    while !roach.said().iter().any(|text| text.starts_with("CANCEL SESSION")) {
        assert!(std::time::Instant::now() < until, "the session is not ended");
        tokio::task::yield_now().await;
    }
    let theirs = other.put(item(&kind.path(), "theirs")).await.unwrap();
    roach.faults.sessions_stay.store(false, Ordering::SeqCst);
    let told = writing.await.unwrap();
    let found = store.get(&key(&kind.path())).await.unwrap().map(|item| item.revision);
    (told.map(|_| found == Some(theirs)), store)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_written_over_is_found_in_the_feed() {
    for kind in [Kind::Put, Kind::Update, Kind::KeepAlive, Kind::BatchIf] {
        let (told, store) = overwritten(|faults| &faults.cuts_after_commit, kind).await;
        assert_eq!(told, Ok(true), "{kind:?}: it happened, before theirs");
        assert_eq!((store.stats().resolved, store.stats().unresolved), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_meets_what_others_have_written() {
    let (told, _) = overwritten(|faults| &faults.cuts_before_commit, Kind::Update).await;
    assert!(matches!(told, Err(Error::RevisionMismatch { .. })), "{told:?}");
    let (told, _) = overwritten(|faults| &faults.cuts_before_commit, Kind::DeleteIf).await;
    assert!(matches!(told, Err(Error::RevisionMismatch { .. })), "{told:?}");
    let (told, _) = overwritten(|faults| &faults.cuts_before_commit, Kind::BatchIf).await;
    assert_eq!(told, Err(Error::ConditionFailed { index: 0 }));
    let (told, store) = overwritten(|faults| &faults.cuts_before_commit, Kind::Put).await;
    assert_eq!((told, store.stats().resolved), (Ok(false), 0), "it is written over theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_feed_nothing_is_claimed() {
    let roach = Roach::start().await;
    let options = SqlOptions {
        max_clock_skew: None,
        patience: Duration::from_millis(500),
        feed_patience: Duration::from_secs(1),
        ..SqlOptions::new(Engine::CockroachDb, &roach.url()).unwrap()
    };
    roach.faults.stalled.store(true, Ordering::SeqCst);
    let store = Sql::open(options).await.unwrap();
    roach.faults.cuts_before_commit.store(1, Ordering::SeqCst);
    let error = store.put(item("/c", "1")).await.unwrap_err().to_string();
    assert!(error.contains("read again to see"), "{error}");
    assert_eq!((store.stats().unresolved, store.stats().resolved), (1, 0));
    assert_eq!(store.get(&key("/c")).await.unwrap(), None);
    // A session of which nobody can say that it is gone is none that is.
    roach.faults.stalled.store(false, Ordering::SeqCst);
    until_it_follows(&store).await;
    roach.faults.sessions_stay.store(true, Ordering::SeqCst);
    roach.faults.cuts_before_commit.store(1, Ordering::SeqCst);
    let error = store.put(item("/c", "1")).await.unwrap_err().to_string();
    assert!(error.contains("read again to see"), "{error}");
    assert_eq!(store.stats().unresolved, 2);
}
