//! Opening a spool: what the last process left is taken up where it ended.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use access_core::audit::{AuditError, Stamper};
use access_core::time::Clock;
use access_core::{ClusterName, WriterId};
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::SpoolOptions;
use super::denials::Denials;
use super::frame::{Found, lines};
use super::journal::{Journal, unavailable};
use super::ring::Ring;
use super::segment::{self, Active, Closed};
use super::sessions::OpenSessions;
use crate::files;
use crate::pause::random;

/// The largest state that is read, in bytes.
const MAX_STATE: u64 = 256 * 1024 * 1024;

/// What is remembered beside the segments. Whatever is missing here because of a crash is known
/// from the segments, and the other way round.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) writer: WriterId,
    /// Auth has everything up to here.
    pub(super) acked: u64,
    /// The last of the strangers' events that was taken out of the ring.
    pub(super) taken: u64,
    /// The sessions that were open after this number.
    pub(super) sessions_at: u64,
    pub(super) sessions: OpenSessions,
    /// What numbers here are beyond the writer's own, when an earlier writer has begun this spool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<u64>,
}

impl State {
    /// Writes it.
    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        files::write_atomically(&dir.join("state.json"), &json)
    }

    fn load(dir: &Path) -> io::Result<Option<Self>> {
        match files::read_bounded(&dir.join("state.json"), MAX_STATE)? {
            Some(json) => Ok(Some(serde_json::from_slice(&json)?)),
            None => Ok(None),
        }
    }
}

/// Opens the spool of a folder; gives back also how far Auth has it.
pub(super) fn open(
    dir: &Path,
    cluster: ClusterName,
    options: SpoolOptions,
    clock: Arc<dyn Clock>,
) -> Result<(Journal, u64), AuditError> {
    recover(dir, cluster, options, clock).map_err(|err| {
        if files::is_full(&err) {
            AuditError::Full
        } else {
            unavailable(format!("{}: {err}", dir.display()))
        }
    })
}

fn recover(
    dir: &Path,
    cluster: ClusterName,
    options: SpoolOptions,
    clock: Arc<dyn Clock>,
) -> io::Result<(Journal, u64)> {
    files::make_dir(dir)?;
    let mut firsts = segment::list(dir)?;
    let state = match State::load(dir)? {
        Some(state) => state,
        None => {
            if !firsts.is_empty() {
                // Without its writer the numbers of what is there mean nothing.
                error!("the audit spool in {} has lost its state: kept aside", dir.display());
                set_aside(dir, &firsts)?;
                firsts.clear();
            }
            let state = State {
                writer: WriterId::from_random(random()),
                acked: 0,
                taken: 0,
                sessions_at: 0,
                sessions: OpenSessions::default(),
                base: None,
            };
            state.save(dir)?;
            state
        }
    };
    let State { writer, acked, mut taken, sessions_at, sessions: mut open_sessions, base } = state;
    let mut last = acked;
    let mut closed = VecDeque::new();
    let mut active = None;
    let count = firsts.len();
    for (index, first) in firsts.into_iter().enumerate() {
        let path = segment::path(dir, first);
        let bytes = std::fs::read(&path)?;
        let mut whole = 0;
        let mut last_here = first.saturating_sub(1);
        for found in lines(&bytes) {
            match found {
                Found::Line(line, end) => {
                    whole = end;
                    last_here = last_here.max(line.number);
                    taken = taken.max(line.origin.unwrap_or(0));
                    if line.number > sessions_at {
                        open_sessions.note_json(line.json);
                    }
                }
                Found::Damaged(end) => {
                    error!("the audit spool is damaged in {} before byte {end}", path.display());
                }
            }
        }
        last = last.max(last_here);
        let len = u64::try_from(bytes.len()).unwrap_or(0);
        if index + 1 < count {
            closed.push_back(Closed { first, last: last_here, len });
            continue;
        }
        // Only the end of the last file can have been torn by a crash.
        let file = files::open_rw(&path)?;
        let whole = u64::try_from(whole).unwrap_or(0);
        if whole < len {
            warn!("cut {} bytes off {} that were never accepted", len - whole, path.display());
            file.set_len(whole)?;
        }
        active = Some(Active { first, file: Arc::new(file), len: whole });
    }
    let next = last.saturating_add(1);
    let active = match active {
        Some(active) => active,
        None => Active::create(dir, next)?,
    };
    // A crash of the process leaves more than it synced: it is the disk's before it is delivered.
    active.file.sync_all()?;
    files::sync_parent(&segment::path(dir, active.first))?;
    let ring = Ring::open(dir, options.stranger_bytes, taken)?;
    let taken_at = clock.now();
    let journal = Journal {
        dir: dir.to_owned(),
        options,
        stamper: Stamper::new(cluster.clone(), writer, next, Arc::clone(&clock)),
        ring,
        denials: Denials::new(clock.now()),
        unsynced: vec![Arc::clone(&active.file)],
        active,
        closed,
        open_sessions,
        taken,
        base,
        generation: 0,
        names_unsynced: true,
        sync_wanted: true,
        watched: true,
        failed: None,
        closing: false,
        dropped: 0,
        taken_at,
        cluster,
        clock,
        lines: super::journal::Lines::default(),
    };
    if let Err(err) = journal.restore_reserve() {
        warn!("no reserve can be set aside for the audit spool: {err}");
    }
    Ok((journal, acked))
}

fn set_aside(dir: &Path, firsts: &[u64]) -> io::Result<()> {
    for first in firsts {
        let path = segment::path(dir, *first);
        std::fs::rename(&path, path.with_extension("lost"))?;
    }
    Ok(())
}
