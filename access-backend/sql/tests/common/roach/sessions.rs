//! The sessions of the stand-in: who is there, and who stays when the connection is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::Shared;
use super::rows::Row;

/// How often a session that lives on is asked for before it commits and ends.
const ASKED: u32 = 3;

/// What a session that lives on is about to commit.
type Late = Vec<(Bytes, Option<Row>)>;

#[derive(Debug, Default)]
pub(super) struct Sessions {
    begun: AtomicU64,
    there: Mutex<BTreeSet<String>>,
    late: Mutex<BTreeMap<String, (u32, Late)>>,
}

impl Sessions {
    /// The name of one that begins.
    pub(super) fn begin(&self) -> String {
        let number = self.begun.fetch_add(1, Ordering::SeqCst);
        let id = format!("{number:016x}{:016x}", 1);
        self.there.lock().unwrap().insert(id.clone());
        id
    }

    pub(super) fn end(&self, id: &str) {
        self.there.lock().unwrap().remove(id);
    }

    /// This one commits later.
    pub(super) fn linger(&self, id: &str, late: Late) {
        self.late.lock().unwrap().insert(id.to_owned(), (0, late));
    }

    /// What it commits now, if it has been asked for often enough.
    fn asked(&self, id: &str) -> Option<Late> {
        let mut late = self.late.lock().unwrap();
        let (asked, _) = late.get_mut(id)?;
        *asked += 1;
        if *asked < ASKED { None } else { late.remove(id).map(|(_, late)| late) }
    }
}

impl Shared {
    /// Whether a session is there. One that lives on commits as late as it can.
    pub(super) async fn is_there(&self, id: &str) -> bool {
        if let Some(late) = self.sessions.asked(id) {
            let mut db = self.db.lock().await;
            let wall = db.tick();
            for (key, row) in late {
                match row.clone() {
                    Some(row) => drop(db.tables.rows.insert(key.clone(), row)),
                    None => drop(db.tables.rows.remove(&key)),
                }
                db.history.push((wall, key, row));
            }
            drop(db);
            self.committed.send_replace(wall);
            return true;
        }
        self.faults.sessions_stay.load(Ordering::SeqCst)
            || self.sessions.late.lock().unwrap().contains_key(id)
            || self.sessions.there.lock().unwrap().contains(id)
    }
}
