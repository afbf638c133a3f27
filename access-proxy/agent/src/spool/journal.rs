//! What is written, under one lock: numbers, files and bounds.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use access_core::audit::events::AuditDropped;
use access_core::audit::{
    AuditError, Durability, Envelope, EnvelopeError, Event, MAX_EVENT_BYTES, Stamper,
};
use access_core::time::Clock;
use access_core::{ClusterName, Timestamp, WriterId};
use metrics::counter;
use tracing::{error, warn};

use super::denials::Denials;
use super::frame::append_line;
use super::ring::{Ring, RingEvent};
use super::segment::{self, Active, Closed, Failed};
use super::sessions::{OpenSessions, is_end};
use super::{SpoolOptions, SpoolStatus};
use crate::files;

/// What may be written out of the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entitled {
    /// What ends something that an accepted event began.
    EndsOnly,
    /// Everything.
    All,
}

/// A buffer that has grown beyond this is not kept.
const KEPT: usize = 64 * 1024;

/// The spool's state, as far as writing needs it.
pub(super) struct Journal {
    pub(super) dir: PathBuf,
    pub(super) options: SpoolOptions,
    pub(super) stamper: Stamper,
    pub(super) ring: Ring,
    pub(super) denials: Denials,
    pub(super) active: Active,
    pub(super) closed: VecDeque<Closed>,
    pub(super) open_sessions: OpenSessions,
    /// The last of the strangers' events that was moved here, or known to be overwritten.
    pub(super) taken: u64,
    /// What numbers here are beyond the writer's own: see [`Journal::begin_writer`].
    pub(super) base: Option<u64>,
    /// Counts writes; what was written up to one is synced when the syncer says so.
    pub(super) generation: u64,
    pub(super) unsynced: Vec<Arc<File>>,
    pub(super) names_unsynced: bool,
    pub(super) sync_wanted: bool,
    /// The syncer looks by itself soon enough, and need not be woken for what nobody waits for.
    pub(super) watched: bool,
    pub(super) failed: Option<String>,
    pub(super) closing: bool,
    pub(super) dropped: u64,
    /// When the last of the strangers' events was taken that was not overwritten.
    pub(super) taken_at: Timestamp,
    pub(super) cluster: ClusterName,
    pub(super) clock: Arc<dyn Clock>,
    /// Room for the lines of one write.
    pub(super) lines: Lines,
}

/// The lines of one write.
#[derive(Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Where each one's JSON is.
    places: Vec<Range<usize>>,
}

impl Lines {
    fn push(
        &mut self,
        event: &Event,
        seq: u64,
        origin: Option<u64>,
        json: impl FnOnce(&mut Vec<u8>) -> Result<(), EnvelopeError>,
    ) -> Result<(), AuditError> {
        let place = append_line(&mut self.bytes, seq, origin, json);
        let place = place.map_err(|err| unavailable(err.to_string()))?;
        check_size(event, place.len())?;
        self.places.push(place);
        Ok(())
    }

    /// The JSON of each.
    fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| self.bytes.get(place.clone()).unwrap_or_default())
    }

    /// The room, for the next ones; not if it has grown large.
    fn cleared(mut self) -> Self {
        if self.bytes.capacity() > KEPT {
            return Self::default();
        }
        self.bytes.clear();
        self.places.clear();
        self
    }
}

impl Journal {
    /// Writes events, all or none, and gives back the generation of the write.
    pub(super) fn accept(
        &mut self,
        events: &[Event],
        durability: Durability,
        entitled: Entitled,
    ) -> Result<u64, AuditError> {
        self.check_usable()?;
        let reserve = entitled == Entitled::All || events.iter().all(is_end);
        let mut lines = std::mem::take(&mut self.lines);
        let mut written = Ok(());
        for (ahead, event) in (0..).zip(events) {
            let seq = self.stamper.next_seq().saturating_add(ahead);
            let json = |out: &mut Vec<u8>| self.stamper.append_json(event, ahead, out);
            written = written.and_then(|()| lines.push(event, seq, None, json));
        }
        let written = written.and_then(|()| self.put(&lines, reserve, durability));
        if written.is_ok() {
            for (event, json) in events.iter().zip(lines.each()) {
                self.stamper.spend(self.stamper.next_seq());
                self.open_sessions.note(event, json);
            }
        }
        self.lines = lines.cleared();
        written
    }

    /// Whether an event is a denial that goes to the ring, because its name has too many.
    pub(super) fn is_denial_too_many(&mut self, event: &Event) -> bool {
        self.denials.is_too_many(event, self.clock.now())
    }

    /// Writes a stranger's event to the ring.
    pub(super) fn accept_stranger(
        &mut self,
        event: Event,
        durability: Durability,
    ) -> Result<u64, AuditError> {
        self.check_usable()?;
        // Writer and number are made up: those that count come when the event moves to the
        // journal. The time is the true one.
        let writer = WriterId::new("strangers").map_err(|err| unavailable(err.to_string()))?;
        let clock = Arc::clone(&self.clock);
        let stamper = Stamper::new(self.cluster.clone(), writer, self.ring.next(), clock);
        let json = encode(&stamper.stamp(event))?;
        match self.ring.push(&json) {
            Ok(file) => Ok(self.written(file, durability)),
            Err(failed) => Err(self.refuse(failed)),
        }
    }

    /// Moves events of the ring into the journal, as long as there is room.
    pub(super) fn take_over(&mut self, events: &[RingEvent]) -> Result<(), AuditError> {
        for event in events {
            self.check_usable()?;
            if event.number <= self.taken {
                continue;
            }
            let Ok(read) = Envelope::from_json(&event.json) else {
                // The checksum was right, so that a newer version wrote it; it is passed over and
                // counted with those that were overwritten.
                continue;
            };
            let missing = event.number - self.taken - 1;
            if missing > 0 {
                let about = AuditDropped { dropped: missing, since: self.taken_at, most: None };
                let envelope = self.stamper.stamp(about.into());
                self.write(&envelope, Some(event.number - 1))?;
                self.dropped = self.dropped.saturating_add(missing);
                counter!("access_audit_dropped_total").increment(missing);
                warn!("{missing} events that strangers caused were overwritten");
                self.taken = event.number - 1;
            }
            let time = read.time;
            let envelope = Envelope { time, extra: read.extra, ..self.stamper.stamp(read.event) };
            self.write(&envelope, Some(event.number))?;
            self.taken = event.number;
            self.taken_at = time;
        }
        Ok(())
    }

    /// Writes an event that has its stamp.
    fn write(&mut self, envelope: &Envelope, origin: Option<u64>) -> Result<(), AuditError> {
        let mut lines = std::mem::take(&mut self.lines);
        let json = |out: &mut Vec<u8>| envelope.append_json(out);
        let written = lines
            .push(&envelope.event, envelope.seq, origin, json)
            .and_then(|()| self.put(&lines, false, Durability::Soon));
        if written.is_ok() {
            self.stamper.spend(envelope.seq);
            for json in lines.each() {
                self.open_sessions.note(&envelope.event, json);
            }
        }
        self.lines = lines.cleared();
        written.map(drop)
    }

    /// Appends lines to the files, all or none.
    fn put(
        &mut self,
        lines: &Lines,
        reserve: bool,
        durability: Durability,
    ) -> Result<u64, AuditError> {
        let bytes = lines.bytes.as_slice();
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let kept = if reserve { 0 } else { self.options.reserve_bytes };
        if self.bytes().saturating_add(len) > self.options.max_bytes.saturating_sub(kept) {
            return Err(AuditError::Full);
        }
        let mut appended = self.append(bytes);
        if let Err(Failed::Clean(err)) = &appended
            && reserve
            && files::is_full(err)
            && self.give_up_reserve()
        {
            appended = self.append(bytes);
        }
        appended.map_err(|failed| self.refuse(failed))?;
        let file = Arc::clone(&self.active.file);
        Ok(self.written(file, durability))
    }

    fn append(&mut self, line: &[u8]) -> Result<(), Failed> {
        if self.active.len > 0
            && self.active.len + u64::try_from(line.len()).unwrap_or(u64::MAX)
                > self.options.segment_bytes
        {
            let next = Active::create(&self.dir, self.stamper.next_seq()).map_err(Failed::Clean)?;
            let full = std::mem::replace(&mut self.active, next);
            let last = self.stamper.next_seq().saturating_sub(1);
            self.closed.push_back(Closed { first: full.first, last, len: full.len });
            self.names_unsynced = true;
        }
        self.active.append(line)
    }

    fn written(&mut self, file: Arc<File>, durability: Durability) -> u64 {
        self.generation += 1;
        if !self.unsynced.iter().any(|known| Arc::ptr_eq(known, &file)) {
            self.unsynced.push(file);
        }
        self.sync_wanted |= durability == Durability::Synced;
        self.generation
    }

    /// Goes on under a new writer, whose first event is the one after `acked`. Numbers in the files
    /// go on; those that Auth sees begin with 1.
    pub(super) fn begin_writer(&mut self, acked: u64) {
        let writer = WriterId::from_random(crate::pause::random());
        let next = self.stamper.next_seq();
        let clock = Arc::clone(&self.clock);
        self.stamper = Stamper::new(self.cluster.clone(), writer, next, clock);
        self.base = Some(acked);
    }

    /// Asks the syncer to do its work now.
    pub(super) fn want_sync(&mut self) {
        self.sync_wanted = true;
    }

    fn check_usable(&self) -> Result<(), AuditError> {
        match &self.failed {
            Some(why) => Err(unavailable(why.clone())),
            None if self.closing => Err(AuditError::Closed),
            None => Ok(()),
        }
    }

    fn refuse(&mut self, failed: Failed) -> AuditError {
        match failed {
            Failed::Clean(err) if files::is_full(&err) => AuditError::Full,
            Failed::Clean(err) => unavailable(err.to_string()),
            Failed::Dirty(err) => {
                // The next write would come behind half of this one.
                error!("the audit spool is damaged and takes nothing more: {err}");
                self.failed = Some(err.to_string());
                unavailable(err.to_string())
            }
        }
    }

    /// Where the file is that keeps the reserve free on the disk.
    pub(super) fn reserve_path(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    /// Gives the disk the space back that was set aside. Says whether there was any.
    pub(super) fn give_up_reserve(&self) -> bool {
        let freed = std::fs::remove_file(self.reserve_path()).is_ok();
        if freed {
            warn!("the disk is full: the audit spool falls back on its reserve");
        }
        freed
    }

    /// Sets the reserve aside again, if there is space.
    pub(super) fn restore_reserve(&self) -> io::Result<()> {
        let path = self.reserve_path();
        if self.options.reserve_bytes == 0 || path.exists() {
            return Ok(());
        }
        let size = usize::try_from(self.options.reserve_bytes).unwrap_or(usize::MAX);
        // Written, not only made longer: a file with a hole keeps no space.
        files::write_atomically(&path, &vec![0; size.min(64 * 1024 * 1024)])
    }

    /// Closed segments that are delivered and may go.
    pub(super) fn delivered_segments(&self, acked: u64) -> Vec<u64> {
        self.closed.iter().take_while(|s| s.last <= acked).map(|s| s.first).collect()
    }

    /// Forgets segments whose files are gone.
    pub(super) fn forget_segments(&mut self, firsts: &[u64]) {
        self.closed.retain(|segment| !firsts.contains(&segment.first));
    }

    /// The segment in which an event is, or the first one after it; and whether more are written
    /// to it.
    pub(super) fn segment_of(&self, number: u64) -> (PathBuf, u64, bool) {
        let closed = self.closed.iter().find(|segment| segment.last >= number);
        let first = closed.map_or(self.active.first, |segment| segment.first);
        (segment::path(&self.dir, first), first, closed.is_none())
    }

    /// The last number in a segment.
    pub(super) fn end_of_segment(&self, first: u64) -> u64 {
        let closed = self.closed.iter().find(|segment| segment.first == first);
        closed.map_or_else(|| self.last_seq(), |segment| segment.last)
    }

    /// The last number that was given.
    pub(super) fn last_seq(&self) -> u64 {
        self.stamper.next_seq().saturating_sub(1)
    }

    pub(super) fn writer(&self) -> &WriterId {
        self.stamper.writer()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.closed.iter().map(|segment| segment.len).sum::<u64>() + self.active.len
    }

    pub(super) fn status(&self, acked: u64) -> SpoolStatus {
        SpoolStatus {
            backlog: self.last_seq().saturating_sub(acked),
            bytes: self.bytes(),
            strangers: self.ring.next().saturating_sub(self.taken + 1),
            dropped: self.dropped,
            failed: self.failed.clone(),
        }
    }
}

fn encode(envelope: &Envelope) -> Result<Vec<u8>, AuditError> {
    let json = envelope.to_json().map_err(|err| unavailable(err.to_string()))?;
    check_size(&envelope.event, json.len())?;
    Ok(json)
}

fn check_size(event: &Event, size: usize) -> Result<(), AuditError> {
    if size > MAX_EVENT_BYTES {
        let name = event.name().to_owned();
        return Err(AuditError::TooLarge { name, size, max: MAX_EVENT_BYTES });
    }
    Ok(())
}

pub(super) fn unavailable(why: String) -> AuditError {
    AuditError::Unavailable(why)
}
