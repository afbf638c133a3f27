//! PostgreSQL's feed: the change log, in the order of the transactions' numbers.
//!
//! A number says when a transaction first wrote, not when it was committed. What is read of the log ends therefore
//! before the first transaction that is still under way (the *horizon*): nothing can come to stand before it any more.
//! A stranger's transaction, in whichever database of the server, would hold the horizon back for as long as it takes.
//! Where that happens, the feed looks who holds a lock on our table: each of our writers does from before it has a
//! number until after its end, so that the numbers of all others do not matter.
//!
//! The numbers that a server gave out before it crashed are given out again where nothing of them had come to the disk.
//! So nothing is remembered here but numbers of changes that were committed: where the feed goes on is the last of those,
//! and not the horizon.

use std::sync::{Arc, Weak};
use std::time::Duration;

use access_backend::engine::Change;
use access_backend::{Error, Item, Key, Position, Value};
use futures::TryStreamExt;
use tokio::time::Instant;
use tokio_postgres::Row;

use super::{Attempts, open};
use crate::conn::{BoundedError, Conn};
use crate::errors::{Failure, unavailable};
use crate::pool::Dialer;
use crate::statements::postgres::log;
use crate::store::Shared;
use crate::types::{Moment, Uuid, column, key};

/// Changes that go to the hub at once, and their bytes.
const CHUNK_ROWS: usize = 256;
const CHUNK_BYTES: usize = 1024 * 1024;
/// As many as the statement reads at once.
const MOST_ROWS: usize = 10_000;
/// How soon to look again: while a transaction holds the horizon back, and while writes come one after the other, each
/// of which would cost the database a look of its own.
const SOON: Duration = Duration::from_millis(5);
/// How long it may do so before the feed looks whose it is.
const HELD_BACK: Duration = Duration::from_millis(40);

/// A place in the log: after this change of this transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) xid: i64,
    /// Changes count from one: zero is before the transaction's first.
    pub(crate) ord: i32,
}

/// Which server's transactions are counted: another store, or a server that took over, counts from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(u32);

impl Epoch {
    /// <https://en.wikipedia.org/wiki/Fowler%E2%80%93Noll%E2%80%93Vo_hash_function>, the same in every process. Neither the
    /// first nor the last number, so that no position of ours looks like those that others make up.
    fn of(text: &str) -> Self {
        let hash = text
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self(hash.clamp(1, u32::MAX - 1))
    }

    /// `[epoch: 32][transaction: 64][change: 32]`
    pub(crate) fn position(self, place: Place) -> Position {
        let xid = u128::from(place.xid.unsigned_abs());
        let ord = u128::from(place.ord.unsigned_abs());
        Position::from_bits(u128::from(self.0) << 96 | xid << 32 | ord)
    }

    /// The place, if the position is of this epoch.
    pub(crate) fn place(self, position: Position) -> Option<Place> {
        let bits = position.to_bits();
        let xid = i64::try_from((bits >> 32) & u128::from(u64::MAX)).ok()?;
        let ord = i32::try_from(bits & u128::from(u32::MAX)).ok()?;
        (bits >> 96 == u128::from(self.0)).then_some(Place { xid, ord })
    }
}

/// Which transactions a snapshot shows.
/// <https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT-PARTS>
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) xmin: i64,
    pub(crate) xmax: i64,
    pub(crate) under_way: Vec<i64>,
}

impl Snapshot {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let list = parts.next()?.split(',').filter(|xid| !xid.is_empty());
        let under_way = list.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { xmin, xmax, under_way })
    }

    pub(crate) fn shows(&self, xid: i64) -> bool {
        xid < self.xmax && !self.under_way.contains(&xid)
    }
}

/// The log as a transaction sees it.
pub(crate) struct State {
    pub(crate) snapshot: Snapshot,
    /// All changes from this transaction on are there.
    pub(crate) floor: i64,
    pub(crate) epoch: Epoch,
    /// The last change that nothing can come to stand before.
    pub(crate) settled: Place,
    /// The transaction of the last change that is shown.
    newest: i64,
}

impl State {
    pub(crate) async fn read(conn: &Conn) -> Result<Result<Self, Error>, tokio_postgres::Error> {
        let statement = conn.prepared(log::STATE).await?;
        let row = conn.client.query_one(&statement, &[]).await?;
        let read = || {
            let snapshot = column::<&str>(&row, 0)?;
            let floor = column(&row, 1)?;
            let settled = column::<Option<i64>>(&row, 3)?.zip(column::<Option<i32>>(&row, 4)?);
            Ok(Self {
                snapshot: Snapshot::parse(snapshot)
                    .ok_or_else(|| unavailable("a snapshot that is none"))?,
                floor,
                epoch: Epoch::of(column(&row, 2)?),
                // Before the first change, where there is none: the floor was committed with the tables.
                settled: settled
                    .map_or(Place { xid: floor, ord: 0 }, |(xid, ord)| Place { xid, ord }),
                newest: column::<Option<i64>>(&row, 5)?.unwrap_or(floor),
            })
        };
        Ok(read())
    }

    /// Whether a change that was read from the log, now or later, is one that this state shows.
    pub(crate) fn shows(&self, xid: i64) -> bool {
        xid <= self.newest && self.snapshot.shows(xid)
    }
}

/// A row of the log: key, value, expiry, revision, transaction, change.
pub(crate) fn logged(row: &Row) -> Result<(Key, Option<Item>, Place), Error> {
    let place = Place { xid: column(row, 4)?, ord: column(row, 5)? };
    let key = key(row, 0)?;
    let item = match column::<Option<&[u8]>>(row, 1)? {
        None => None,
        Some(value) => Some(Item {
            key: key.clone(),
            value: Value::new(value.to_vec())?,
            expires: column::<Option<Moment>>(row, 2)?.map(|moment| moment.0),
            revision: column::<Uuid>(row, 3)?.0,
        }),
    };
    Ok((key, item, place))
}

/// The feed, going.
pub(crate) struct Running {
    conn: Conn,
    dialer: Arc<Dialer>,
    epoch: Epoch,
    cursor: Place,
    /// Since when something is committed beyond the horizon.
    held_back: Option<Instant>,
}

/// Where to go on.
struct Polled {
    count: usize,
    full: bool,
    /// Something is committed beyond the horizon.
    beyond: bool,
}

enum Broken {
    Wire(BoundedError),
    /// Changes may have been missed.
    Gap,
    Store(Error),
}

impl From<BoundedError> for Broken {
    fn from(error: BoundedError) -> Self {
        Self::Wire(error)
    }
}

impl Running {
    /// Begins with what is committed from now on.
    pub(crate) async fn start(shared: &Shared, dialer: Arc<Dialer>) -> Result<Self, Failure> {
        let (conn, state) = connect(shared, &dialer).await?;
        let (epoch, cursor) = (state.epoch, state.settled);
        shared.feed.low_mark.store(cursor.xid, std::sync::atomic::Ordering::SeqCst);
        Ok(Self { conn, dialer, epoch, cursor, held_back: None })
    }

    /// Runs until the store is closed or dropped.
    pub(crate) async fn run(mut self, store: Weak<Shared>) {
        let Some((wake, poll_every)) =
            open(&store).map(|shared| (shared.feed.wake.clone(), shared.options.poll_every))
        else {
            return;
        };
        let mut soon = false;
        let mut looked = Instant::now();
        loop {
            let pause = if soon { SOON } else { poll_every };
            // Either may be first; the other is not lost by it.
            let _woken_or_not = tokio::time::timeout(pause, wake.notified()).await;
            tokio::time::sleep_until(looked + SOON).await;
            looked = Instant::now();
            let Some(shared) = open(&store) else { return };
            match self.step(&shared).await {
                Ok(polled) => soon = polled.full || polled.beyond,
                Err(Broken::Gap) => {
                    tracing::warn!(
                        "the change log was trimmed past this process; watches begin anew"
                    );
                    drop(shared);
                    if self.again(&store, true).await.is_none() {
                        return;
                    }
                }
                Err(Broken::Store(error)) => {
                    tracing::error!(%error, "the change log can't be read; watches begin anew");
                    drop(shared);
                    if self.again(&store, true).await.is_none() {
                        return;
                    }
                }
                Err(Broken::Wire(error)) => {
                    let error = error.judge(&self.dialer).into_error();
                    tracing::warn!(%error, "the connection of the change feed broke");
                    drop(shared);
                    if self.again(&store, false).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Connects again. Goes on where it was, unless that is no longer possible or `anew` is asked for.
    async fn again(&mut self, store: &Weak<Shared>, anew: bool) -> Option<()> {
        let mut attempts = Attempts::new();
        loop {
            attempts.next(store).await?;
            let shared = open(store)?;
            match connect(&shared, &self.dialer).await {
                Ok((conn, state)) => {
                    attempts.succeeded();
                    self.conn = conn;
                    if anew || state.epoch != self.epoch || state.floor > self.cursor.xid {
                        self.epoch = state.epoch;
                        self.cursor = state.settled;
                        // After the place to begin is known: who subscribes from now on reads later than that.
                        shared.hub.reset();
                    }
                    shared.feed.wake.notify_one();
                    return Some(());
                }
                Err(failure) => {
                    let error = failure.into_error();
                    tracing::warn!(%error, "the change feed can't be connected");
                }
            }
        }
    }

    async fn step(&mut self, shared: &Shared) -> Result<Polled, Broken> {
        if shared.feed.take_dirty() {
            self.conn.bounded(self.conn.client.batch_execute(log::NOTIFY)).await?;
        }
        let mut polled = self.poll(shared, 0).await?;
        if !polled.beyond || polled.count > 0 {
            self.held_back = None;
        } else if self.held_back.get_or_insert_with(Instant::now).elapsed() > HELD_BACK
            && let Some(horizon) = self.horizon_of_ours().await?
        {
            polled = self.poll(shared, horizon).await?;
        }
        // What is held back may be missing for as long as it is.
        if !polled.beyond || polled.count > 0 {
            shared.feed.hear(Duration::ZERO);
        }
        Ok(polled)
    }

    /// Publishes what the log has after the cursor and before `horizon`; before the database's own, if that is zero.
    async fn poll(&mut self, shared: &Shared, horizon: i64) -> Result<Polled, Broken> {
        let statement = self.conn.bounded(self.conn.prepared(log::POLL)).await?;
        let params = [&self.cursor.xid as &(dyn tokio_postgres::types::ToSql + Sync)];
        let params = params.into_iter().chain([&self.cursor.ord as _, &horizon as _]);
        let rows = self
            .conn
            .bounded(self.conn.client.query_raw(&statement, params.collect::<Vec<_>>()))
            .await?;
        futures::pin_mut!(rows);
        let (mut count, mut bytes, mut beyond) = (0, 0, false);
        let mut last = self.cursor;
        let mut changes = Vec::new();
        while let Some(row) = self.conn.bounded(rows.try_next()).await? {
            let floor: i64 = column(&row, 6).map_err(Broken::Store)?;
            if floor > last.xid {
                return Err(Broken::Gap);
            }
            beyond = column(&row, 7).map_err(Broken::Store)?;
            if column::<Option<i64>>(&row, 4).map_err(Broken::Store)?.is_none() {
                break;
            }
            let (key, item, place) = logged(&row).map_err(Broken::Store)?;
            bytes += item.as_ref().map_or(0, |item| item.value.len());
            count += 1;
            last = place;
            changes.push(Arc::new(Change {
                position: self.epoch.position(place),
                key,
                item,
                mark: 0,
            }));
            if changes.len() >= CHUNK_ROWS || bytes >= CHUNK_BYTES {
                shared.hub.publish(&changes);
                // What was published is not published again, should the rest not come.
                self.cursor = last;
                changes.clear();
                bytes = 0;
            }
        }
        shared.hub.publish(&changes);
        let full = count >= MOST_ROWS;
        self.cursor = last;
        shared.feed.low_mark.store(last.xid, std::sync::atomic::Ordering::SeqCst);
        Ok(Polled { count, full, beyond })
    }

    /// The horizon, counting our own writers alone; `None` where that can't be told.
    ///
    /// Transactions that were under way in the snapshot and are ours hold their lock when the locks are read, or have
    /// ended before. Those that hold it still are found by their number.
    async fn horizon_of_ours(&self) -> Result<Option<i64>, Broken> {
        let client = &self.conn.client;
        let row = self.conn.bounded(client.query_one(log::SNAPSHOT, &[])).await?;
        let text = column::<&str>(&row, 0).map_err(Broken::Store)?;
        let Some(snapshot) = Snapshot::parse(text) else { return Ok(None) };
        let statement = self.conn.bounded(self.conn.prepared(log::WRITERS)).await?;
        let mut pids: Vec<i32> = Vec::new();
        for row in self.conn.bounded(client.query(&statement, &[])).await? {
            // A prepared transaction belongs to no process.
            let Some(pid) = column(&row, 0).map_err(Broken::Store)? else { return Ok(None) };
            pids.push(pid);
        }
        let statement = self.conn.bounded(self.conn.prepared(log::THEIR_XIDS)).await?;
        let mut horizon = snapshot.xmax;
        for row in self.conn.bounded(client.query(&statement, &[&pids])).await? {
            let (xid, mine): (Option<&str>, Option<bool>) =
                (column(&row, 0).map_err(Broken::Store)?, column(&row, 1).map_err(Broken::Store)?);
            let short: Option<u32> = xid.and_then(|xid| xid.parse().ok());
            match (short, mine) {
                (Some(short), _) => {
                    // What is shown has lost its upper half: <https://www.postgresql.org/docs/current/transaction-id.html>
                    let ours = snapshot.under_way.iter().filter(|full| low_half(**full) == short);
                    horizon = ours.copied().fold(horizon, i64::min);
                }
                (None, Some(true)) => {}
                // Somebody else's, of whom this user may not know.
                (None, _) => return Ok(None),
            }
        }
        Ok((horizon > self.cursor.xid).then_some(horizon))
    }
}

fn low_half(xid: i64) -> u32 {
    u32::try_from(xid & i64::from(u32::MAX)).unwrap_or_default()
}

/// A connection that listens, and the log as it is afterwards.
async fn connect(shared: &Shared, dialer: &Dialer) -> Result<(Conn, State), Failure> {
    let conn = dialer.dial(Some(shared.feed.wake.clone())).await?;
    let prepared = async {
        conn.client.batch_execute(log::LISTEN).await?;
        if conn.client.query_one(log::FOREIGN, &[]).await?.try_get::<_, Option<bool>>(0)?
            == Some(true)
        {
            tracing::warn!("the change log comes from another server; it begins anew");
            conn.client.batch_execute(log::BEGIN_ANEW).await?;
        }
        State::read(&conn).await
    };
    match conn.bounded(prepared).await {
        Ok(Ok(state)) => Ok((conn, state)),
        Ok(Err(error)) => Err(Failure::Final(error)),
        Err(error) => Err(error.judge(dialer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_rise_with_their_places() {
        let epoch = Epoch::of("store00000001");
        let places = [(5, 0), (5, 1), (5, i32::MAX), (6, 0), (i64::MAX, 3)];
        let positions = places.map(|(xid, ord)| epoch.position(Place { xid, ord }));
        assert!(positions.is_sorted_by(|a, b| a < b));
        for (position, (xid, ord)) in positions.into_iter().zip(places) {
            assert_eq!(epoch.place(position), Some(Place { xid, ord }));
            assert_eq!(Epoch::of("store00000002").place(position), None);
        }
        assert_eq!(epoch.place(Position::from_bits(0)), None);
        assert_eq!(epoch.place(Position::from_bits(u128::MAX)), None);
    }

    #[test]
    fn a_snapshot_tells_what_it_shows() {
        let snapshot = Snapshot::parse("10:20:10,14,15").unwrap();
        let shown: Vec<i64> = (8..22).filter(|xid| snapshot.shows(*xid)).collect();
        assert_eq!(shown, [8, 9, 11, 12, 13, 16, 17, 18, 19]);
        assert!(Snapshot::parse("7:7:").unwrap().under_way.is_empty());
        assert_eq!(Snapshot::parse("7"), None);
    }
}
