//! A watch: what the tables have, then what the feed brings.
//!
//! The subscription begins before the snapshot is taken, so that each change is in the snapshot, in the queue, or in
//! both; those in both are known by what the snapshot shows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use access_backend::engine::{Change, Subscription};
use access_backend::{Error, KeyRange, Position, Prefix, Watch, WatchEvent};
use futures::{TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use crate::Engine;
use crate::conn::{BoundedError, Conn};
use crate::errors::{Failure, unavailable};
use crate::feed::cockroachdb::Hlc;
use crate::feed::postgres::{Place, State, logged};
use crate::pool::jittered;
use crate::statements::cockroachdb::feed;
use crate::statements::postgres::log;
use crate::statements::tx;
use crate::store::Shared;
use crate::types::{Moment, column, item};
use crate::write::bounds;

/// Rows read ahead of the watcher.
const CHUNK_ROWS: usize = 128;
/// Bytes after which a chunk goes out before it has its rows.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks read ahead of the watcher.
const CHUNKS: usize = 32;
/// A watcher that takes no chunk for so long is reset: its transaction keeps old rows from being cleaned up.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Request {
    pub(crate) prefixes: Vec<Prefix>,
    pub(crate) from: Option<Position>,
}

/// What the watcher has been shown already.
pub(crate) enum Shown {
    Log(State),
    /// Everything up to this moment and this place.
    Moment(Hlc, Option<Position>),
}

impl Shown {
    fn lacks(&self, change: &Change) -> bool {
        match self {
            Self::Log(state) => {
                state.epoch.place(change.position).is_none_or(|place| !state.shows(place.xid))
            }
            Self::Moment(at, place) => {
                change.mark > at.bits() && place.is_none_or(|place| change.position > place)
            }
        }
    }
}

enum Part {
    Events(Vec<WatchEvent>),
    Ready(Position, Shown),
    Reset,
    Failed(Error),
}

struct Watching {
    parts: mpsc::Receiver<Part>,
    pending: VecDeque<WatchEvent>,
    shown: Option<Shown>,
    subscription: Subscription,
}

pub(crate) fn start(shared: &Arc<Shared>, request: Request, subscription: Subscription) -> Watch {
    let (sender, parts) = mpsc::channel(CHUNKS);
    let shared = shared.clone();
    tokio::spawn(async move {
        let mut closing = shared.closing.subscribe();
        let closed = async { drop(closing.wait_for(|closing| *closing).await) };
        let closed = tokio::select! {
            biased;
            () = closed => true,
            () = produce(&shared, &request, &sender) => false,
        };
        if closed {
            let _gone = sender.send(Part::Failed(Error::Closed)).await;
        }
    });
    let state = Watching { parts, pending: VecDeque::new(), shown: None, subscription };
    Watch::new(stream::unfold(state, |mut state| async move {
        let event = state.next().await;
        Some((event, state))
    }))
}

impl Watching {
    async fn next(&mut self) -> Result<WatchEvent, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            if let Some(shown) = &self.shown {
                return self.subscription.next_where(|change| shown.lacks(change)).await;
            }
            match self.parts.recv().await {
                Some(Part::Events(events)) => self.pending.extend(events),
                Some(Part::Ready(position, shown)) => {
                    self.shown = Some(shown);
                    return Ok(WatchEvent::Ready(position));
                }
                Some(Part::Failed(error)) => return Err(error),
                Some(Part::Reset) | None => return Ok(WatchEvent::Reset),
            }
        }
    }
}

/// Why a snapshot did not come to its end.
enum Stopped {
    /// The watcher has gone, or is too slow.
    Reader,
    Wire(BoundedError),
    Store(Error),
}

impl From<BoundedError> for Stopped {
    fn from(error: BoundedError) -> Self {
        Self::Wire(error)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// Reads what the watcher begins with. A connection that breaks costs nothing while nothing was sent.
async fn produce(shared: &Arc<Shared>, request: &Request, sender: &mpsc::Sender<Part>) {
    let Ok(_permit) = shared.snapshots.acquire().await else { return };
    let deadline = shared.pool.deadline();
    loop {
        let mut out = Out { sender, events: Vec::new(), bytes: 0, sent: false };
        let failure = match snapshot(shared, request, &mut out, deadline).await {
            Ok(()) | Err(Stopped::Reader) => return,
            Err(Stopped::Store(error)) => Failure::Final(error),
            Err(Stopped::Wire(error)) => error.judge(shared.pool.dialer()),
        };
        let last = match failure {
            Failure::Final(error) => Part::Failed(error),
            _ if out.sent => Part::Reset,
            failure if Instant::now() + PAUSE > deadline => Part::Failed(failure.into_error()),
            _ => {
                tokio::time::sleep(jittered(PAUSE)).await;
                continue;
            }
        };
        let _gone = sender.send(last).await;
        return;
    }
}

async fn snapshot(
    shared: &Shared,
    request: &Request,
    out: &mut Out<'_>,
    deadline: Instant,
) -> Result<(), Stopped> {
    let reached = match (shared.options.engine, request.from) {
        (Engine::CockroachDb, Some(from)) => return resume(shared, request, from, out).await,
        // What the feed has brought by now is in a snapshot that is taken after it.
        (Engine::CockroachDb, None) => Some(shared.feed.log().position()),
        (Engine::Postgres, _) => None,
    };
    let conn = shared.pool.get(deadline).await?;
    conn.set_open(true);
    conn.bounded(conn.client.batch_execute(shared.statements().begin_read)).await?;
    let (position, shown) = match reached {
        None => log_snapshot(shared, &conn, request, out).await?,
        Some(reached) => {
            let at = moment(&conn).await?;
            all_rows(shared, &conn, &request.prefixes, out).await?;
            (Some(reached), Some(Shown::Moment(at, None)))
        }
    };
    if conn.bounded(conn.client.batch_execute(tx::COMMIT)).await.is_ok() {
        conn.set_open(false);
    }
    drop(conn);
    let Some((position, shown)) = position.zip(shown) else { return out.send(Part::Reset).await };
    out.flush().await?;
    out.send(Part::Ready(position, shown)).await
}

/// What CockroachDB's feed has kept since a position.
async fn resume(
    shared: &Shared,
    request: &Request,
    from: Position,
    out: &mut Out<'_>,
) -> Result<(), Stopped> {
    let resumed = shared.feed.log().since(from);
    let Some(resumed) = resumed else { return out.send(Part::Reset).await };
    for change in &resumed.changes {
        if request.prefixes.iter().any(|prefix| prefix.covers(&change.key)) {
            let len = change.item.as_ref().map_or(0, |item| item.value.len());
            out.push(change.event(), len).await?;
        }
    }
    out.flush().await?;
    let shown = Shown::Moment(resumed.since, Some(resumed.after));
    out.send(Part::Ready(resumed.ready, shown)).await
}

/// The moment of CockroachDB's transaction.
async fn moment(conn: &Conn) -> Result<Hlc, Stopped> {
    let statement = conn.bounded(conn.prepared(feed::NOW)).await?;
    let row = conn.bounded(conn.client.query_one(&statement, &[])).await?;
    let text: &str = column(&row, 0)?;
    Hlc::parse(text).ok_or_else(|| Stopped::Store(unavailable("a moment that is none")))
}

async fn log_snapshot(
    shared: &Shared,
    conn: &Conn,
    request: &Request,
    out: &mut Out<'_>,
) -> Result<(Option<Position>, Option<Shown>), Stopped> {
    let state = conn.bounded(State::read(conn)).await??;
    let mut ready = state.settled;
    match request.from {
        None => all_rows(shared, conn, &request.prefixes, out).await?,
        Some(from) => {
            let known = state
                .epoch
                .place(from)
                .filter(|from| from.xid >= state.floor && from.xid <= state.snapshot.xmax);
            let Some(from) = known else { return Ok((None, None)) };
            ready = ready.max(from);
            changes_since(conn, &request.prefixes, from, &state, ready, out).await?;
        }
    }
    let position = state.epoch.position(ready);
    Ok((Some(position), Some(Shown::Log(state))))
}

async fn all_rows(
    shared: &Shared,
    conn: &Conn,
    prefixes: &[Prefix],
    out: &mut Out<'_>,
) -> Result<(), Stopped> {
    let now = Moment(shared.now());
    let statement = conn.bounded(conn.prepared(shared.statements().page)).await?;
    for prefix in prefixes {
        let range = KeyRange::from(prefix);
        let (start, end) = bounds(&range);
        let params: [&(dyn ToSql + Sync); 4] = [&start, &end, &now, &i64::MAX];
        let rows = conn.bounded(conn.client.query_raw(&statement, params)).await?;
        futures::pin_mut!(rows);
        while let Some(row) = conn.bounded(rows.try_next()).await? {
            let item = item(&row, 0)?;
            let len = item.value.len();
            out.push(WatchEvent::Put(item), len).await?;
        }
    }
    Ok(())
}

/// The last change of each key. What stands beyond the horizon is shown already, but is not a place to go on from: what
/// is under way could come to stand before it.
async fn changes_since(
    conn: &Conn,
    prefixes: &[Prefix],
    from: Place,
    state: &State,
    ready: Place,
    out: &mut Out<'_>,
) -> Result<(), Stopped> {
    let statement = conn.bounded(conn.prepared(log::SINCE)).await?;
    let params: [&(dyn ToSql + Sync); 2] = [&from.xid, &from.ord];
    let rows = conn.bounded(conn.client.query_raw(&statement, params)).await?;
    futures::pin_mut!(rows);
    while let Some(row) = conn.bounded(rows.try_next()).await? {
        let (key, item, place) = logged(&row)?;
        if !prefixes.iter().any(|prefix| prefix.covers(&key)) {
            continue;
        }
        let place = if place.xid < state.snapshot.xmin { place } else { ready };
        let len = item.as_ref().map_or(0, |item| item.value.len());
        let change = Change { position: state.epoch.position(place), key, item, mark: 0 };
        out.push(change.event(), len).await?;
    }
    Ok(())
}

/// The way to the watcher.
struct Out<'a> {
    sender: &'a mpsc::Sender<Part>,
    events: Vec<WatchEvent>,
    bytes: usize,
    sent: bool,
}

impl Out<'_> {
    async fn push(&mut self, event: WatchEvent, len: usize) -> Result<(), Stopped> {
        self.events.push(event);
        self.bytes += len;
        if self.events.len() < CHUNK_ROWS && self.bytes < CHUNK_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        self.bytes = 0;
        let events = std::mem::take(&mut self.events);
        self.send(Part::Events(events)).await
    }

    async fn send(&mut self, part: Part) -> Result<(), Stopped> {
        self.sent = true;
        match tokio::time::timeout(PATIENCE, self.sender.send(part)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Stopped::Reader),
        }
    }
}
