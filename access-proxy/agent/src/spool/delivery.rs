//! From the spool to Auth: in order, again and again until it is stored.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use access_client::{AuthClient, ClientError, proto, with_deadline};
use access_core::audit::{AuditError, AuditSink, Durability};
use bytes::Bytes;
use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::frame::{Found, lines};
use super::open::State;
use super::{Shared, SpoolSink, refused, ring, segment};
use crate::pause::Pause;

/// Gives a client of Auth that shows the certificates of the moment.
pub type ClientSource = Arc<dyn Fn() -> AuthClient + Send + Sync>;

/// The most events in one call, and the most bytes; one event more may come.
const MAX_EVENTS: usize = 1000;
const MAX_BATCH: usize = 1024 * 1024;
/// Strangers' events wait in their ring while this much waits for delivery.
const STRANGERS_BELOW: u64 = 1024 * 1024;
/// How far apart calls are that are not full: each costs Auth a transaction, and the sessions here
/// the processor's time.
const GATHER: Duration = Duration::from_millis(200);
/// The most bytes of a file that are looked at in one go: many times a line.
const MAX_READ: u64 = 2 * MAX_BATCH as u64;
/// How often acks are written.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How often the reserve is looked after.
const TEND_EVERY: Duration = Duration::from_secs(30);

/// Where the next event to be delivered is.
#[derive(Clone, Copy, Default)]
struct Cursor {
    segment: u64,
    offset: u64,
}

struct Batch {
    events: Vec<Bytes>,
    last: u64,
    cursor: Cursor,
}

impl SpoolSink {
    /// Delivers for as long as it is polled. One at a time.
    pub async fn deliver(&self, clients: ClientSource) {
        let shared = Arc::clone(self.shared());
        let mut synced = shared.synced.subscribe();
        let mut strangers = shared.strangers.subscribe();
        let mut cursor = Cursor::default();
        let mut most = MAX_EVENTS;
        let mut pause = Pause::for_calls();
        let mut unsaved_since: Option<Instant> = None;
        let mut next_call = Instant::now();
        let mut down = false;
        loop {
            synced.mark_unchanged();
            strangers.mark_unchanged();
            if let Err(err) = blocking(&shared, take_strangers).await {
                debug!("strangers' events stay where they are: {err}");
            }
            if (1..MAX_EVENTS as u64).contains(&self.backlog()) {
                tokio::time::sleep_until(next_call).await;
            }
            let batch = blocking(&shared, move |shared| read(shared, cursor, most)).await;
            gauge!("access_audit_backlog").set(self.status().backlog as f64);
            let batch = match batch {
                Ok(batch) => batch,
                Err(err) => {
                    warn!("the audit spool cannot be read: {err}");
                    tokio::time::sleep(pause.after_failure()).await;
                    continue;
                }
            };
            cursor = batch.cursor;
            if batch.events.is_empty() {
                let save_at = unsaved_since.map(|since: Instant| since + SAVE_EVERY);
                tokio::select! {
                    _ = synced.changed() => {}
                    _ = strangers.changed() => {}
                    () = until(save_at) => {
                        self.save().await;
                        unsaved_since = None;
                    }
                    () = tokio::time::sleep(TEND_EVERY) => {
                        // Without space it stays missing, and is tried again.
                        drop(blocking(&shared, |shared| shared.lock().restore_reserve()).await);
                    }
                }
                continue;
            }
            let count = batch.events.len();
            next_call = Instant::now() + GATHER;
            match self.emit(&clients(), &batch.events).await {
                Ok(stored) => {
                    most = MAX_EVENTS.min(most * 2);
                    pause.reset();
                    if std::mem::take(&mut down) {
                        info!("audit events are delivered again");
                    }
                    debug!("{count} audit events were delivered, up to {}", batch.last);
                    if stored < batch.last {
                        // What is not stored comes again.
                        cursor = Cursor::default();
                        tokio::time::sleep(pause.after_failure()).await;
                    }
                    acked(&shared.acked, stored.min(batch.last));
                    let since = *unsaved_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= SAVE_EVERY || self.has_delivered_segments() {
                        self.save().await;
                        unsaved_since = None;
                    }
                }
                // One of them is refused whatever is done: which one?
                Err(ClientError::Invalid(_)) if count > 1 => {
                    most = count / 2;
                    cursor = Cursor::default();
                }
                Err(ClientError::Invalid(why)) => {
                    self.set_aside(&batch.events, &why).await;
                    acked(&shared.acked, batch.last);
                    unsaved_since.get_or_insert_with(Instant::now);
                }
                // Only a writer can be there already.
                Err(ClientError::AlreadyExists(why)) => {
                    warn!("the audit spool goes on under another writer: {why}");
                    let stored = *shared.acked.borrow();
                    self.lock().begin_writer(stored);
                    self.save().await;
                    cursor = Cursor::default();
                    tokio::time::sleep(pause.after_failure()).await;
                }
                Err(err) => {
                    if !std::mem::replace(&mut down, true) {
                        warn!("audit events wait, they cannot be delivered: {err}");
                    }
                    cursor = Cursor::default();
                    tokio::time::sleep(pause.after_failure()).await;
                }
            }
        }
    }

    /// How many events Auth does not have yet, as far as they are synced.
    fn backlog(&self) -> u64 {
        let synced = self.shared().synced.borrow().seq;
        synced.saturating_sub(*self.shared().acked.borrow())
    }

    /// Hands events over, under the writer of the moment and with its numbers. Gives the number,
    /// here, up to which they are stored.
    async fn emit(&self, client: &AuthClient, events: &[Bytes]) -> Result<u64, ClientError> {
        // Nothing is copied under the lock: whoever accepts an event waits for it.
        let (writer, base) = {
            let journal = self.lock();
            (journal.writer().clone(), journal.base)
        };
        let events = events.to_vec();
        let request = blocking(self.shared(), move |_| {
            let events = match base {
                Some(base) => {
                    let restamp = |json: &Bytes| refused::restamp(json, &writer, base).into();
                    events.iter().map(restamp).collect()
                }
                None => events,
            };
            Ok(proto::EmitRequest::of(writer.as_str(), events))
        });
        let request = request.await.map_err(|err| ClientError::Malformed(err.to_string()))?;
        let answer = client.audit().emit(with_deadline(request)).await?;
        Ok(answer.into_inner().stored_up_to.saturating_add(base.unwrap_or(0)))
    }

    /// Keeps events aside that Auth refuses for good, and tells of them.
    async fn set_aside(&self, events: &[Bytes], why: &str) {
        for json in events {
            warn!("an audit event is refused by the auth service and kept aside: {why}");
            counter!("access_audit_refused_total").increment(1);
            let kept = json.clone();
            let kept = blocking(self.shared(), move |shared| refused::keep(&shared.dir, &kept));
            match kept.await {
                Ok(true) => {}
                Ok(false) => warn!("the file of refused audit events is full: it is only counted"),
                Err(err) => warn!("a refused audit event cannot be kept aside: {err}"),
            }
            let now = self.lock().clock.now();
            if let Some(report) = refused::report(json, now)
                && let Err(err) = self.accept(report.into(), Durability::Soon).await
            {
                warn!("a refused audit event cannot be told of: {err}");
            }
        }
    }

    /// Remembers what was delivered, so that it needs not be delivered again.
    pub(crate) async fn save(&self) {
        let (generation, number, state) = {
            let journal = self.lock();
            let number = self.shared().states.fetch_add(1, Ordering::Relaxed) + 1;
            let state = State {
                writer: journal.writer().clone(),
                acked: *self.shared().acked.borrow(),
                taken: journal.taken,
                sessions_at: journal.last_seq(),
                sessions: journal.open_sessions.clone(),
                base: journal.base,
            };
            (journal.generation, number, state)
        };
        // The state must not know of what a power cut could take back.
        self.lock().want_sync();
        self.shared().work.notify_one();
        if self.wait_synced(generation).await.is_err() {
            return;
        }
        let saved = blocking(self.shared(), move |shared| save(shared, number, &state)).await;
        if let Err(err) = saved {
            warn!("the audit spool's state cannot be written: {err}");
        }
    }

    fn has_delivered_segments(&self) -> bool {
        let acked = *self.shared().acked.borrow();
        !self.lock().delivered_segments(acked).is_empty()
    }
}

/// Waits for a moment, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn acked(sender: &watch::Sender<u64>, stored: u64) {
    sender.send_if_modified(|acked| {
        let more = stored > *acked;
        *acked = stored.max(*acked);
        more
    });
}

/// Writes the state, then removes the segments that it makes superfluous. A delivery that was dropped may have left one
/// that is still being written, and that is older.
fn save(shared: &Shared, number: u64, state: &State) -> io::Result<()> {
    let mut last = shared.saved.lock().unwrap_or_else(PoisonError::into_inner);
    if number < *last {
        return Ok(());
    }
    let mut saved = state.save(&shared.dir);
    if saved.as_ref().is_err_and(crate::files::is_full) && shared.lock().give_up_reserve() {
        saved = state.save(&shared.dir);
    }
    saved?;
    *last = number;
    let delivered = shared.lock().delivered_segments(state.acked);
    for first in &delivered {
        crate::files::remove(&segment::path(&shared.dir, *first))?;
    }
    shared.lock().forget_segments(&delivered);
    Ok(())
}

/// Moves strangers' events into the journal while little waits there.
fn take_strangers(shared: &Shared) -> io::Result<()> {
    let acked = *shared.acked.borrow();
    let (paths, taken) = {
        let journal = shared.lock();
        let waiting = journal.status(acked);
        if waiting.strangers == 0 || (waiting.backlog > 0 && waiting.bytes > STRANGERS_BELOW) {
            return Ok(());
        }
        (journal.ring.paths(), journal.taken)
    };
    let events = ring::read(&paths, taken, MAX_EVENTS)?;
    let moved = shared.lock().take_over(&events);
    shared.work.notify_one();
    match moved {
        Ok(()) | Err(AuditError::Full) => Ok(()),
        Err(err) => Err(io::Error::other(err)),
    }
}

/// The next events that are synced and not stored yet.
fn read(shared: &Shared, cursor: Cursor, most: usize) -> io::Result<Batch> {
    let acked = *shared.acked.borrow();
    let synced = shared.synced.borrow().seq;
    let mut batch = Batch { events: Vec::new(), last: acked, cursor };
    if synced <= acked {
        return Ok(batch);
    }
    let mut next = acked + 1;
    let mut bytes = 0;
    loop {
        let (path, first, active) = shared.lock().segment_of(next);
        if batch.cursor.segment != first {
            batch.cursor = Cursor { segment: first, offset: 0 };
        }
        let start = batch.cursor.offset;
        let contents = read_from(&path, start)?;
        for found in lines(&contents) {
            let (line, end) = match found {
                Found::Line(line, end) => (line, end),
                Found::Damaged(end) => {
                    batch.cursor.offset = start + u64::try_from(end).unwrap_or(0);
                    continue;
                }
            };
            if line.number > synced || batch.events.len() >= most || bytes >= MAX_BATCH {
                return Ok(batch);
            }
            batch.cursor.offset = start + u64::try_from(end).unwrap_or(0);
            if line.number > acked {
                bytes += line.json.len();
                // Cut out of what was read: nothing is copied.
                batch.events.push(contents.slice_ref(line.json));
                batch.last = line.number;
            }
        }
        let more = contents.len() as u64 == MAX_READ;
        if !batch.events.is_empty() || (active && !more) {
            return Ok(batch);
        }
        if more {
            // Without a line's end in all of that it was none.
            let passed = batch.cursor.offset > start;
            batch.cursor.offset = if passed { batch.cursor.offset } else { start + MAX_READ };
            continue;
        }
        // This file holds nothing more that can be read; the next one may.
        next = shared.lock().end_of_segment(first).max(next) + 1;
    }
}

fn read_from(path: &std::path::Path, offset: u64) -> io::Result<Bytes> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let left = file.metadata()?.len().saturating_sub(offset).min(MAX_READ);
    file.seek(SeekFrom::Start(offset))?;
    let mut contents = Vec::with_capacity(usize::try_from(left).unwrap_or_default());
    file.take(MAX_READ).read_to_end(&mut contents)?;
    Ok(contents.into())
}

/// Runs what touches the disk, or takes long, where it may block.
async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || work(&shared)).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use access_core::time::ManualClock;
    use access_core::{ClusterName, Timestamp};

    use super::*;
    use crate::spool::SpoolOptions;

    #[test]
    fn of_states_that_are_saved_at_once_the_newest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::EPOCH));
        let cluster = ClusterName::new("example.com").unwrap();
        let sink = SpoolSink::open(dir.path(), cluster, SpoolOptions::default(), clock).unwrap();
        let state = {
            let journal = sink.lock();
            let (writer, sessions) = (journal.writer().clone(), journal.open_sessions.clone());
            State { writer, acked: 0, taken: 0, sessions_at: 0, sessions, base: None }
        };
        // Numbered as they were taken, but written in any order.
        std::thread::scope(|scope| {
            for first in 1..=4 {
                let (sink, state) = (&sink, &state);
                scope.spawn(move || {
                    for number in (0..10).rev().map(|round| 4 * round + first) {
                        let state = State { taken: number, ..state.clone() };
                        save(sink.shared(), number, &state).unwrap();
                    }
                });
            }
        });
        let saved = std::fs::read_to_string(dir.path().join("state.json")).unwrap();
        assert!(saved.contains("\"taken\":40"), "{saved}");
    }
}
