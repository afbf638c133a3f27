//! The thread that syncs: one fsync for everybody who waits.

use std::sync::{Arc, PoisonError};

use access_core::audit::AuditError;
use tracing::error;

use super::journal::{Journal, unavailable};
use super::{SYNC_WITHIN, Shared};
use crate::files;

/// How far everything is on the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Synced {
    /// The generation of the journal.
    pub(super) generation: u64,
    /// The last number.
    pub(super) seq: u64,
    /// Why nothing is synced any more.
    pub(super) failed: Option<String>,
}

/// Starts the thread. It ends when the journal is closing.
pub(super) fn start(shared: Arc<Shared>) -> Result<(), AuditError> {
    std::thread::Builder::new()
        .name("audit-spool".into())
        .spawn(move || while round(&shared) {})
        .map(drop)
        .map_err(|err| unavailable(err.to_string()))
}

/// Waits for something to sync, then syncs it. Says whether there will be more.
fn round(shared: &Shared) -> bool {
    let idle = |j: &Journal| j.unsynced.is_empty() && !j.sync_wanted && !j.closing;
    let mut journal = shared.lock();
    loop {
        // Unless somebody waits: what comes meanwhile shares the same sync.
        (journal, _) = shared
            .work
            .wait_timeout_while(journal, SYNC_WITHIN, |j| !j.sync_wanted && !j.closing)
            .unwrap_or_else(PoisonError::into_inner);
        if !idle(&journal) {
            break;
        }
        journal.watched = false;
        while idle(&journal) {
            journal = shared.work.wait(journal).unwrap_or_else(PoisonError::into_inner);
        }
        journal.watched = true;
    }
    let files = std::mem::take(&mut journal.unsynced);
    let names = std::mem::take(&mut journal.names_unsynced);
    journal.sync_wanted = false;
    let (generation, seq, more) = (journal.generation, journal.last_seq(), !journal.closing);
    let failed_before = journal.failed.is_some();
    let some_file = journal.reserve_path();
    drop(journal);

    let mut result = files.iter().try_for_each(|file| file.sync_data());
    if names {
        result = result.and_then(|()| files::sync_parent(&some_file));
    }
    match result {
        Ok(()) if failed_before => {}
        Ok(()) => {
            shared.synced.send_modify(|synced| {
                synced.generation = generation;
                synced.seq = seq;
            });
        }
        Err(err) => {
            // After a failed sync nobody knows which pages the disk has (and the next sync may
            // well claim success), so that nothing more may be promised.
            error!("the audit spool cannot be synced and takes nothing more: {err}");
            let why = format!("syncing failed: {err}");
            shared.lock().failed = Some(why.clone());
            shared.synced.send_modify(|synced| synced.failed = Some(why));
        }
    }
    more
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use access_core::audit::events::UserLogout;
    use access_core::audit::{AuditSink, Durability, Event};
    use access_core::time::ManualClock;
    use access_core::{ClusterName, Timestamp};

    use super::super::{SpoolOptions, SpoolSink};
    use super::*;

    fn event() -> Event {
        UserLogout { user: "alice".into(), addr_remote: None }.into()
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_synced_whether_the_syncer_is_about_or_sleeps() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::EPOCH));
        let cluster = ClusterName::new("example.com").unwrap();
        let sink = SpoolSink::open(dir.path(), cluster, SpoolOptions::default(), clock).unwrap();
        let mut synced = sink.shared().synced.subscribe();
        let until = |sink: &SpoolSink, watched| {
            while sink.lock().watched != watched {
                std::thread::yield_now();
            }
        };
        sink.accept(event(), Durability::Synced).await.unwrap();
        until(&sink, true);
        sink.accept(event(), Durability::Soon).await.unwrap();
        synced.wait_for(|synced| synced.seq == 2).await.unwrap();
        until(&sink, false);
        sink.accept(event(), Durability::Soon).await.unwrap();
        synced.wait_for(|synced| synced.seq == 3).await.unwrap();
    }

    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_promised_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::EPOCH));
        let cluster = ClusterName::new("example.com").unwrap();
        let sink = SpoolSink::open(dir.path(), cluster, SpoolOptions::default(), clock).unwrap();
        sink.accept(event(), Durability::Synced).await.unwrap();
        // A device that knows no fsync.
        sink.lock().unsynced.push(Arc::new(File::open("/dev/null").unwrap()));
        for durability in [Durability::Synced, Durability::Soon] {
            let refused = sink.accept(event(), durability).await;
            assert!(matches!(refused, Err(AuditError::Unavailable(_))), "{refused:?}");
        }
        assert!(sink.status().failed.is_some());
        assert_eq!(sink.shared().synced.borrow().seq, 1, "what is not synced is not delivered");
    }
}
