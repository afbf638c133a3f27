//! CockroachDB's feed: a change feed without a sink, on a connection of its own.
//!
//! ```text
//!            first resolved               nothing resolved for too long, or the connection broke
//! begun ───────────────────► following ───────────────────────────────────────────────────┐
//!   ▲                            │ change: to the watchers at once                         │
//!   │                            │ resolved: nothing before it is missing any more         │
//!   └────────── connected again, from the last resolved moment ◄──────────────────────────┘
//!                    or, where the database has forgotten that: from now, and watches begin anew
//! ```
//!
//! Changes of one key come in order, those of different keys nearly so; after a break some come again. A position is
//! therefore the last moment that was resolved, and a number that counts on from there in one process.
//! <https://www.cockroachlabs.com/docs/stable/create-changefeed>

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use access_backend::engine::Change;
use access_backend::{Error, Item, Key, Position, Revision, UnixMillis, Value};
use data_encoding::HEXLOWER_PERMISSIVE;
use futures::TryStreamExt;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::{Attempts, open};
use crate::conn::Conn;
use crate::conn_string::ConnString;
use crate::errors::{Failure, unavailable};
use crate::pool::Dialer;
use crate::statements::cockroachdb::feed;
use crate::store::Shared;

/// A moment in the order of the database: nanoseconds since 1970, and a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hlc(u128);

impl Hlc {
    /// `1536242855577149065.0000000001`
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (wall, logical) = text.split_once('.').unwrap_or((text, "0"));
        let wall: u64 = wall.parse().ok()?;
        // A fraction of ten digits, of which the last may have been cut off as zeros.
        let logical: u32 = format!("{logical:0<10}").parse().ok()?;
        Some(Self(u128::from(wall) << 32 | u128::from(logical)))
    }

    pub(crate) fn bits(self) -> u128 {
        self.0
    }

    pub(crate) fn plus(self, time: Duration) -> Self {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(u128::from(nanos) << 32))
    }

    /// How long before `now` it is.
    fn before(self, now: UnixMillis) -> Duration {
        let millis = i64::try_from((self.0 >> 32) / 1_000_000).unwrap_or(i64::MAX);
        Duration::from_millis(u64::try_from(now.0.saturating_sub(millis)).unwrap_or_default())
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:010}", self.0 >> 32, self.0 & u128::from(u32::MAX))
    }
}

/// `[store: 16][wall: 64][logical: 16][number: 20][process: 12]`. Of a larger logical counter the highest that fits is
/// kept: that is before it, and a position may be too early.
const NUMBER_BITS: u32 = 20;
const PROCESS_BITS: u32 = 12;
const LOW_BITS: u32 = NUMBER_BITS + PROCESS_BITS;

/// What is known of the stream of changes.
#[derive(Debug)]
pub(crate) struct Log {
    store: u16,
    /// Which process the numbers are of.
    process: u16,
    resolved: Hlc,
    number: u32,
    /// What came since, and before for as far as there is room.
    kept: VecDeque<Arc<Change>>,
    room: usize,
    /// All changes after this moment are kept.
    floor: Hlc,
    /// When each key that was written after the resolved moment was.
    seen: HashMap<Key, Hlc>,
}

/// Where a watch that comes with a position goes on.
pub(crate) struct Resumed {
    pub(crate) changes: Vec<Arc<Change>>,
    pub(crate) ready: Position,
    /// What comes later is new if it is both after this place and after this moment.
    pub(crate) after: Position,
    pub(crate) since: Hlc,
}

/// What came between two moments.
#[derive(Debug)]
pub(crate) enum Passed {
    /// Something of it may still come.
    NotYet,
    /// Not all of it is kept any more.
    Forgotten,
    Changes(Vec<Arc<Change>>),
}

impl Log {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            store: 0,
            process: rand::random::<u16>() >> (16 - PROCESS_BITS),
            resolved: Hlc::default(),
            number: 0,
            kept: VecDeque::new(),
            room,
            floor: Hlc::default(),
            seen: HashMap::new(),
        }
    }

    /// Begins with what comes after a moment.
    fn begin(&mut self, store: u16, at: Hlc) {
        *self =
            Self { store, process: self.process, resolved: at, floor: at, ..Self::new(self.room) };
    }

    /// The place that has been reached.
    pub(crate) fn position(&self) -> Position {
        self.place(self.resolved, self.number, self.process)
    }

    fn place(&self, at: Hlc, number: u32, process: u16) -> Position {
        let low = u128::from(number.min((1 << NUMBER_BITS) - 1)) << PROCESS_BITS;
        Position::from_bits(
            u128::from(self.store) << 112 | short(at) << LOW_BITS | low | u128::from(process),
        )
    }

    /// Numbers a change, unless it came before.
    fn take(&mut self, key: Key, item: Option<Item>, updated: Hlc) -> Option<Arc<Change>> {
        let known = self.seen.get(&key).is_some_and(|last| updated <= *last);
        if known || updated <= self.resolved {
            return None;
        }
        self.seen.insert(key.clone(), updated);
        self.number += 1;
        let change =
            Arc::new(Change { position: self.position(), key, item, mark: updated.bits() });
        self.kept.push_back(change.clone());
        while self.kept.len() > self.room {
            // Others of the same moment may be among what is kept, and count as forgotten too.
            let Some(forgotten) = self.kept.pop_front() else { break };
            self.floor = self.floor.max(Hlc(forgotten.mark));
        }
        Some(change)
    }

    /// Whether that is news.
    fn resolve(&mut self, at: Hlc) -> bool {
        if at <= self.resolved {
            return false;
        }
        self.resolved = at;
        self.number = 0;
        self.seen.retain(|_, updated| *updated > at);
        true
    }

    /// Nothing that is written from now on comes before it.
    pub(crate) fn resolved(&self) -> Hlc {
        self.resolved
    }

    /// What came after a moment that had been resolved, and up to another.
    pub(crate) fn passed(&self, since: Hlc, until: Hlc) -> Passed {
        // A feed begins with the moment of one node, and others may write before that for a while. So nothing is known
        // of what came after it, but only after what was resolved.
        if since <= self.floor {
            return Passed::Forgotten;
        }
        if self.resolved < until {
            return Passed::NotYet;
        }
        let between = |change: &Change| change.mark > since.bits() && change.mark <= until.bits();
        Passed::Changes(self.kept.iter().filter(|change| between(change)).cloned().collect())
    }

    /// The changes after a position; `None` if some of them may be forgotten, or it is not of this store.
    pub(crate) fn since(&self, from: Position) -> Option<Resumed> {
        let bits = from.to_bits();
        if bits >> 112 != u128::from(self.store) {
            return None;
        }
        let at = long((bits >> LOW_BITS) & ((1 << 80) - 1));
        let mine = bits & ((1 << PROCESS_BITS) - 1) == u128::from(self.process);
        if at < long(short(self.floor)) {
            return None;
        }
        let new = |change: &Change| change.mark > at.bits() && (!mine || change.position > from);
        let changes = self.kept.iter().filter(|change| new(change)).cloned().collect();
        let reached = self.position();
        Some(Resumed { changes, ready: reached.max(from), after: reached, since: at })
    }
}

/// 80 bits of it.
fn short(at: Hlc) -> u128 {
    (at.0 >> 32) << 16 | (at.0 & u128::from(u32::MAX)).min(u128::from(u16::MAX))
}

fn long(short: u128) -> Hlc {
    Hlc((short >> 16) << 32 | (short & u128::from(u16::MAX)))
}

/// The feed, going.
pub(crate) struct Running {
    conn: Conn,
    dialer: Arc<Dialer>,
    store: u16,
}

enum Ended {
    Closed,
    /// Nothing was resolved for so long.
    Silent(Duration),
    /// The database no longer has what came after the resolved moment.
    Forgotten,
    Failed(Error),
}

impl Running {
    /// Begins with what is committed from now on.
    pub(crate) async fn start(shared: &Shared, dialer: Arc<Dialer>) -> Result<Self, Failure> {
        let (conn, store, now) = connect(shared, &dialer).await?;
        shared.feed.log().begin(store, now);
        Ok(Self { conn, dialer, store })
    }

    /// Runs until the store is closed or dropped.
    pub(crate) async fn run(mut self, store: Weak<Shared>) {
        loop {
            let ended = self.follow(&store).await;
            let anew = match ended {
                Ended::Closed => return,
                Ended::Silent(patience) => {
                    let seconds = patience.as_secs();
                    tracing::warn!(seconds, "the change feed resolved nothing; it begins again");
                    false
                }
                Ended::Failed(error) => {
                    tracing::warn!(%error, "the change feed broke; it begins again");
                    false
                }
                Ended::Forgotten => {
                    tracing::warn!(
                        "the database has forgotten what the feed missed; watches begin anew"
                    );
                    true
                }
            };
            let mut attempts = Attempts::new();
            loop {
                if attempts.next(&store).await.is_none() {
                    return;
                }
                let Some(shared) = open(&store) else { return };
                match connect(&shared, &self.dialer).await {
                    Ok((conn, now_store, now)) => {
                        self.conn = conn;
                        if anew || now_store != self.store {
                            self.store = now_store;
                            shared.feed.log().begin(now_store, now);
                            // After the place to begin is known: who subscribes from now on reads later than that.
                            shared.hub.reset();
                        }
                        break;
                    }
                    Err(failure) => {
                        let error = failure.into_error();
                        tracing::warn!(%error, "the change feed can't be connected");
                    }
                }
            }
        }
    }

    async fn follow(&self, store: &Weak<Shared>) -> Ended {
        let Some(shared) = open(store) else { return Ended::Closed };
        let (wake, patience) = (shared.feed.wake.clone(), shared.options.feed_patience);
        let cursor = shared.feed.log().resolved.to_string();
        let create = feed::CREATE.replace("{cursor}", &cursor);
        let stream = match self.conn.bounded(self.conn.client.simple_query_raw(&create)).await {
            Ok(stream) => stream,
            Err(error) => return Ended::Failed(error.judge(&self.dialer).into_error()),
        };
        drop(shared);
        futures::pin_mut!(stream);
        let mut until = Instant::now() + patience;
        loop {
            let message = tokio::select! {
                () = wake.notified() => None,
                message = tokio::time::timeout_at(until, stream.try_next()) => Some(message),
            };
            let Some(shared) = open(store) else { return Ended::Closed };
            let row = match message {
                None => continue,
                Some(Err(_)) => return Ended::Silent(patience),
                Some(Ok(Ok(Some(SimpleQueryMessage::Row(row))))) => row,
                Some(Ok(Ok(Some(_)))) => continue,
                Some(Ok(Ok(None))) => return Ended::Failed(unavailable("the change feed ended")),
                Some(Ok(Err(error))) => return judge_end(&self.dialer, &error),
            };
            match Told::read(&row) {
                Ok(Told::Resolved(at)) => {
                    // The same moment once more says no more than silence.
                    if shared.feed.log().resolve(at) {
                        until = Instant::now() + patience;
                        shared.feed.hear(at.before(shared.now()));
                    }
                }
                Ok(Told::Changed(key, item, updated)) => {
                    // Under the lock, so that a watch that resumes finds each change in the log or in its queue.
                    let mut log = shared.feed.log();
                    if let Some(change) = log.take(key, item, updated) {
                        shared.hub.publish(&[change]);
                    }
                }
                Err(error) => return Ended::Failed(error),
            }
        }
    }
}

fn judge_end(dialer: &Dialer, error: &tokio_postgres::Error) -> Ended {
    let said = error.as_db_error().map(|db| db.message().to_owned()).unwrap_or_default();
    if said.contains("GC threshold") {
        return Ended::Forgotten;
    }
    if said.contains("kv.rangefeed.enabled") {
        return Ended::Failed(disabled(&dialer.conn));
    }
    Ended::Failed(dialer.judge(error).into_error())
}

fn disabled(conn: &ConnString) -> Error {
    Error::Setting {
        setting: conn.setting(),
        reason: format!(
            "change feeds are switched off in the database; as its administrator run: {}",
            feed::ENABLE
        ),
    }
}

/// A connection that can have a feed, whose store it leads to, and the moment there.
async fn connect(shared: &Shared, dialer: &Dialer) -> Result<(Conn, u16, Hlc), Failure> {
    let conn = dialer.dial(Some(shared.feed.wake.clone())).await?;
    let ask = async |text: &str| {
        let answers = conn.bounded(conn.client.simple_query(text)).await;
        let row = answers.map_err(|error| error.judge(dialer))?;
        let first = row.into_iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten().map(str::to_owned),
            _ => None,
        });
        Ok::<_, Failure>(first.unwrap_or_default())
    };
    ask(feed::SESSION).await?;
    // Who may not see the setting learns of it from the feed itself.
    if matches!(ask(feed::RANGEFEEDS).await.as_deref(), Ok("false" | "f" | "off")) {
        return Err(Failure::Final(disabled(&dialer.conn)));
    }
    let store = ask(feed::STORE).await?;
    let now = ask(feed::NOW).await?;
    let now = Hlc::parse(&now)
        .ok_or_else(|| Failure::Final(unavailable(&format!("a moment that is none: {now:?}"))))?;
    Ok((conn, store_number(&store), now))
}

/// The same in every process, and neither the first nor the last number, so that no position of ours looks like those
/// that others make up. <https://en.wikipedia.org/wiki/Fowler%E2%80%93Noll%E2%80%93Vo_hash_function>
fn store_number(store: &str) -> u16 {
    let hash = store
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u16::try_from((hash >> 16) ^ (hash & 0xffff)).unwrap_or_default().clamp(1, u16::MAX - 1)
}

/// One message of a feed.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Resolved(Hlc),
    Changed(Key, Option<Item>, Hlc),
}

#[derive(Deserialize)]
struct Message {
    resolved: Option<String>,
    updated: Option<String>,
    after: Option<After>,
}

#[derive(Deserialize)]
struct After {
    value: String,
    expires: Option<String>,
    revision: String,
}

impl Told {
    fn read(row: &SimpleQueryRow) -> Result<Self, Error> {
        let column = |at| row.try_get(at).ok().flatten().map(raw).transpose();
        Self::parse(column(1)?.as_deref(), &column(2)?.unwrap_or_default())
    }

    fn parse(key: Option<&[u8]>, value: &[u8]) -> Result<Self, Error> {
        let bad = |what: &str| unavailable(&format!("the change feed sent {what}"));
        let message: Message =
            serde_json::from_slice(value).map_err(|_| bad("what is no message"))?;
        if let Some(resolved) = message.resolved {
            return Hlc::parse(&resolved).map(Self::Resolved).ok_or_else(|| bad("a bad moment"));
        }
        let moment = message.updated.as_deref().and_then(Hlc::parse);
        let updated = moment.ok_or_else(|| bad("a change without its moment"))?;
        let [key]: [String; 1] = key
            .and_then(|key| serde_json::from_slice(key).ok())
            .ok_or_else(|| bad("a change without its key"))?;
        let key = String::from_utf8(raw(&key)?).ok().and_then(|key| Key::parse(&key).ok());
        let key = key.ok_or_else(|| bad("a key that is none"))?;
        let Some(after) = message.after else { return Ok(Self::Changed(key, None, updated)) };
        let revision = u128::from_str_radix(&after.revision.replace('-', ""), 16);
        let item = Item {
            key: key.clone(),
            value: Value::new(raw(&after.value)?)?,
            expires: after
                .expires
                .map(|text| moment_of(&text).ok_or_else(|| bad("a bad expiry")))
                .transpose()?,
            revision: revision
                .map(Revision::from_bits)
                .map_err(|_| bad("a revision that is none"))?,
        };
        Ok(Self::Changed(key, Some(item), updated))
    }
}

/// Bytes as both databases write them: `\x6162`.
fn raw(text: &str) -> Result<Vec<u8>, Error> {
    match text.strip_prefix("\\x") {
        Some(digits) => HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .map_err(|_| unavailable("the change feed sent bytes that are none")),
        None => Ok(text.as_bytes().to_vec()),
    }
}

fn moment_of(text: &str) -> Option<UnixMillis> {
    match text {
        "infinity" => return Some(UnixMillis(i64::MAX)),
        "-infinity" => return Some(UnixMillis(i64::MIN)),
        _ => {}
    }
    let moment = OffsetDateTime::parse(&text.replacen(' ', "T", 1), &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok().map(UnixMillis)
}

#[cfg(test)]
mod tests;
