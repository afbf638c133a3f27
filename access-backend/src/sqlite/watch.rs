//! A watch: what the file has, then what the writer commits.
//!
//! The subscription begins before the read transaction does, so each commit is in the snapshot, in the queue, or in
//! both; those in both are known by their number.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::readers::{Purpose, Readers};
use super::{errors, read};
use crate::hub::{Change, Subscription, position};
use crate::{Error, KeyRange, Position, Prefix, UnixMillis, Watch, WatchEvent};

/// Rows read ahead of the watcher.
const CHUNK_ROWS: usize = 128;
/// Bytes after which a chunk goes out before it has its rows.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks read ahead of the watcher: most snapshots fit, and let go of their reader at once.
const CHUNKS: usize = 32;
/// A watcher that takes no chunk for so long is reset: its read transaction keeps the log from being folded in.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Request {
    pub(super) path: PathBuf,
    pub(super) prefixes: Vec<Prefix>,
    pub(super) from: Option<Position>,
    pub(super) now: UnixMillis,
}

enum Part {
    Events(Vec<WatchEvent>),
    /// The snapshot is whole, up to this change.
    Ready(u64),
    Reset,
    Failed(Error),
}

struct State {
    parts: mpsc::Receiver<Part>,
    pending: VecDeque<WatchEvent>,
    live_after: Option<u64>,
    subscription: Subscription,
}

pub(super) fn start(readers: &Arc<Readers>, request: Request, subscription: Subscription) -> Watch {
    let (sender, parts) = mpsc::channel(CHUNKS);
    let readers = readers.clone();
    tokio::spawn(async move {
        let failed = sender.clone();
        let out = Out { sender, closing: readers.closing(), handle: Handle::current() };
        let done =
            readers.run(Purpose::Snapshot, move |connection| send(connection, &request, out));
        if let Err(error) = done.await {
            let _gone = failed.send(Part::Failed(error)).await;
        }
    });
    let state = State { parts, pending: VecDeque::new(), live_after: None, subscription };
    Watch::new(stream::unfold(state, |mut state| async move {
        let event = state.next().await;
        Some((event, state))
    }))
}

impl State {
    async fn next(&mut self) -> Result<WatchEvent, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            if let Some(after) = self.live_after {
                return self.subscription.next(position(after)).await;
            }
            match self.parts.recv().await {
                Some(Part::Events(events)) => self.pending.extend(events),
                Some(Part::Ready(last)) => {
                    self.live_after = Some(last);
                    return Ok(WatchEvent::Ready(position(last)));
                }
                Some(Part::Failed(error)) => return Err(error),
                Some(Part::Reset) | None => return Ok(WatchEvent::Reset),
            }
        }
    }
}

/// The way to the watcher, from a blocking thread.
struct Out {
    sender: mpsc::Sender<Part>,
    closing: watch::Receiver<bool>,
    handle: Handle,
}

impl Out {
    /// Answers whether to go on.
    fn send(&mut self, part: Part) -> Result<bool, Error> {
        let Self { sender, closing, handle } = self;
        handle.block_on(async {
            tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => Err(Error::Closed),
                sent = tokio::time::timeout(PATIENCE, sender.send(part)) => Ok(matches!(sent, Ok(Ok(())))),
            }
        })
    }
}

/// Reads what the watcher begins with, in one transaction. A watcher that is gone or too slow ends it early, and the
/// end of the channel without [`Part::Ready`] tells the latter.
fn send(connection: &mut Connection, request: &Request, mut out: Out) -> Result<(), Error> {
    let Request { path, prefixes, from, now } = request;
    let transaction = connection.transaction().map_err(errors::sql(path))?;
    let last = read::last_seq(&transaction, path)?;
    let mut chunk = Chunk::default();
    match from {
        None => {
            for prefix in prefixes {
                let mut go_on = true;
                read::scan(&transaction, path, &KeyRange::from(prefix), *now, None, |item| {
                    let len = item.value.len();
                    go_on = chunk.push(WatchEvent::Put(item), len, &mut out)?;
                    Ok(go_on)
                })?;
                if !go_on {
                    return Ok(());
                }
            }
        }
        Some(from) => {
            let from = u64::try_from(from.to_bits()).unwrap_or(u64::MAX);
            let Some(changes) = read::since(&transaction, path, from)? else {
                return out.send(Part::Reset).map(drop);
            };
            for (key, seq) in changes {
                if !prefixes.iter().any(|prefix| prefix.covers(&key)) {
                    continue;
                }
                let item = read::get(&transaction, path, &key)?;
                let len = item.as_ref().map_or(0, |item| item.value.len());
                if !chunk.push(
                    Change { position: position(seq), key, item, mark: 0 }.event(),
                    len,
                    &mut out,
                )? {
                    return Ok(());
                }
            }
        }
    }
    if out.send(Part::Events(chunk.events))? {
        out.send(Part::Ready(last))?;
    }
    Ok(())
}

#[derive(Default)]
struct Chunk {
    events: Vec<WatchEvent>,
    bytes: usize,
}

impl Chunk {
    fn push(&mut self, event: WatchEvent, len: usize, out: &mut Out) -> Result<bool, Error> {
        self.events.push(event);
        self.bytes += len;
        if self.events.len() < CHUNK_ROWS && self.bytes < CHUNK_BYTES {
            return Ok(true);
        }
        out.send(Part::Events(std::mem::take(self).events))
    }
}
