//! Events of which many come at once, for engines: they are kept as compressed blocks.
//!
//! A row with its indexes costs many times what an event of a busy session takes by itself. An
//! [`append`](crate::EventStore::append) of 32 and more of one writer, with consecutive numbers, is
//! therefore kept as blocks, each with what a search has to know of it; whatever else comes is kept as rows. A block
//! has *all* numbers from its first to its last one, so that what is in it already is known without opening it.
//!
//! ```text
//! body    zstd of record*
//! record  seq u64, time i64, name u16 bytes, user u16 bytes (0xffff: none), json u32 bytes   little-endian
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{
    Error, EventCursor, EventOrder, EventPage, EventQuery, MAX_EVENT_BYTES, MAX_EVENT_TEXT,
    MAX_PAGE_BYTES, StoredEvent, UnixMillis,
};

/// As many events of one append are worth a block.
pub(crate) const MIN_EVENTS: usize = 32;
/// The most events of a block: those of one append.
pub const MAX_EVENTS: usize = crate::MAX_APPEND_EVENTS;
/// A block ends once its records have as many bytes; one more record may come.
const FULL: usize = 1024 * 1024;
/// The most bytes of a block's records; no body is opened further.
const MAX_OPENED: usize = FULL + MAX_EVENT_BYTES + 2 * MAX_EVENT_TEXT + 64;
/// How far apart in time events of one block are, so that retention does not wait long for the last of them.
const MAX_SPAN_MILLIS: i64 = 3_600_000;
/// The most bytes of the names, and of the users, that are listed of a block.
const MAX_LISTED: usize = 4096;
/// Fast; events are alike, so that more effort saves little.
const LEVEL: i32 = 1;
const NO_USER: u16 = u16::MAX;

/// Events of one writer with consecutive numbers, compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Who numbered them.
    pub writer: String,
    /// The first number.
    pub first_seq: u64,
    /// The last number.
    pub last_seq: u64,
    /// The earliest moment of them.
    pub first_time: UnixMillis,
    /// The latest moment of them.
    pub last_time: UnixMillis,
    /// How many they are.
    pub count: u32,
    /// Their names, each between two line ends; empty when they are too many to list. [`listed`] makes what to look
    /// for in it.
    pub names: String,
    /// The users that they are about, likewise.
    pub users: String,
    /// The events.
    pub body: Vec<u8>,
}

/// What stands in [`Block::names`] and [`Block::users`] for a text.
pub fn listed(text: &str) -> String {
    format!("\n{text}\n")
}

/// The blocks of an append; `None` for one that is kept as rows. It takes a millisecond or two for a large one.
pub fn pack(events: &[StoredEvent]) -> Option<Vec<Block>> {
    let first = events.first().filter(|_| events.len() >= MIN_EVENTS)?;
    let consecutive = events.iter().zip(first.seq..).all(|(event, seq)| event.seq == seq);
    if !consecutive || events.iter().any(|event| event.writer != first.writer) {
        return None;
    }
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).ok()?;
    let mut blocks = Vec::with_capacity(1);
    let mut open = Open::default();
    for event in events {
        if open.is_full_for(event) {
            blocks.push(open.close(&mut compressor)?);
            open = Open::default();
        }
        open.push(event)?;
    }
    blocks.push(open.close(&mut compressor)?);
    Some(blocks)
}

/// [`pack`] where it may take its time, with the events themselves.
///
/// # Errors
/// [`Error::Unavailable`] when the runtime is ending.
pub async fn packed(
    events: Vec<StoredEvent>,
) -> Result<(Vec<StoredEvent>, Option<Vec<Block>>), Error> {
    if events.len() < MIN_EVENTS {
        return Ok((events, None));
    }
    let work = move || {
        let blocks = pack(&events);
        (events, blocks)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|err| Error::unavailable(format!("packing events was cut short: {err}")))
}

/// A block that is being made.
#[derive(Default)]
struct Open<'a> {
    events: Vec<&'a StoredEvent>,
    names: BTreeSet<&'a str>,
    users: BTreeSet<&'a str>,
    times: Option<(i64, i64)>,
    records: Vec<u8>,
}

impl<'a> Open<'a> {
    fn is_full_for(&self, event: &StoredEvent) -> bool {
        let Some((first, last)) = self.times else { return false };
        let time = event.time.0;
        self.records.len() >= FULL
            || last.max(time).saturating_sub(first.min(time)) > MAX_SPAN_MILLIS
    }

    fn push(&mut self, event: &'a StoredEvent) -> Option<()> {
        let (time, user) = (event.time.0, event.user.as_deref());
        let (first, last) = self.times.unwrap_or((time, time));
        self.times = Some((first.min(time), last.max(time)));
        self.events.push(event);
        self.names.insert(&event.name);
        self.users.extend(user);
        let out = &mut self.records;
        if out.capacity() == 0 {
            out.reserve(FULL / 4);
        }
        out.extend_from_slice(&event.seq.to_le_bytes());
        out.extend_from_slice(&time.to_le_bytes());
        out.extend_from_slice(&u16::try_from(event.name.len()).ok()?.to_le_bytes());
        out.extend_from_slice(event.name.as_bytes());
        let length = user.map_or(Some(NO_USER), |user| u16::try_from(user.len()).ok())?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(user.unwrap_or_default().as_bytes());
        out.extend_from_slice(&u32::try_from(event.json.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&event.json);
        Some(())
    }

    fn close(self, compressor: &mut zstd::bulk::Compressor<'_>) -> Option<Block> {
        let (first, last) = (self.events.first()?, self.events.last()?);
        let (first_time, last_time) = self.times?;
        Some(Block {
            writer: first.writer.clone(),
            first_seq: first.seq,
            last_seq: last.seq,
            first_time: UnixMillis(first_time),
            last_time: UnixMillis(last_time),
            count: u32::try_from(self.events.len()).ok()?,
            names: list(&self.names),
            users: list(&self.users),
            body: compressor.compress(&self.records).ok()?,
        })
    }
}

/// Texts, each between two line ends. None at all are one line end: an empty list means that nobody knows.
fn list(texts: &BTreeSet<&str>) -> String {
    let length = texts.iter().map(|text| text.len() + 1).sum::<usize>() + 1;
    if length > MAX_LISTED {
        return String::new();
    }
    let mut all = String::with_capacity(length);
    all.push('\n');
    for text in texts {
        all.push_str(text);
        all.push('\n');
    }
    all
}

/// Puts a page together out of rows and blocks that come in the order of the search, or nearly so.
///
/// ```
/// use access_backend::engine::{PageOfEvents, pack};
/// use access_backend::{EventQuery, StoredEvent, UnixMillis};
/// let event = |seq: u64| StoredEvent {
///     writer: "w".into(),
///     seq,
///     time: UnixMillis(seq as i64),
///     name: "query".into(),
///     user: None,
///     json: "{}".into(),
/// };
/// let blocks = pack(&(1..100).map(event).collect::<Vec<_>>()).unwrap();
/// let query = EventQuery { limit: 2, ..EventQuery::default() };
/// let mut page = PageOfEvents::new(&query, 2);
/// page.open(&blocks[0].writer, &blocks[0].body).unwrap();
/// let page = page.finish();
/// assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [99, 98]);
/// assert!(page.next.is_some());
/// ```
#[derive(Debug)]
pub struct PageOfEvents<'a> {
    query: &'a EventQuery,
    limit: usize,
    best: BTreeMap<EventCursor, StoredEvent>,
    bytes: usize,
    /// Something that was looked for had no room.
    more: bool,
}

impl<'a> PageOfEvents<'a> {
    /// An empty page of at most `limit` events.
    pub fn new(query: &'a EventQuery, limit: usize) -> Self {
        Self { query, limit, best: BTreeMap::new(), bytes: 0, more: false }
    }

    /// Takes an event that is looked for, if there is room before others.
    pub fn offer(&mut self, event: StoredEvent) {
        self.bytes += event.json.len();
        self.best.insert(event.cursor(), event);
        while let Some(worst) = self.worst() {
            let rest = self.bytes - worst.json.len();
            if self.best.len() <= self.limit && (rest < MAX_PAGE_BYTES || self.best.len() == 1) {
                break;
            }
            self.bytes = rest;
            self.more = true;
            match self.query.order {
                EventOrder::NewestFirst => self.best.pop_first(),
                EventOrder::OldestFirst => self.best.pop_last(),
            };
        }
    }

    /// Whether nothing from that moment on, in the order of the search, has room any more.
    pub fn is_closed_for(&self, time: UnixMillis) -> bool {
        self.more
            && self.worst().is_some_and(|worst| match self.query.order {
                EventOrder::NewestFirst => time < worst.time,
                EventOrder::OldestFirst => time > worst.time,
            })
    }

    /// Takes out of a block what is looked for.
    ///
    /// # Errors
    /// What is wrong with a body that [`pack`] did not make.
    pub fn open(&mut self, writer: &str, body: &[u8]) -> Result<(), &'static str> {
        let records = zstd::bulk::decompress(body, MAX_OPENED)
            .map_err(|_| "a block of events cannot be opened")?;
        let mut rest = &records[..];
        while !rest.is_empty() {
            let record = Record::read(&mut rest).ok_or("a block of events is damaged")?;
            let of_user = self.query.user.as_deref().is_none_or(|user| record.user == Some(user));
            let of_name = self.query.names.is_empty()
                || self.query.names.iter().any(|name| name == record.name);
            let time = UnixMillis(record.time);
            let in_time = self.query.from.is_none_or(|from| time >= from)
                && self.query.to.is_none_or(|to| time < to);
            if !of_user || !of_name || !in_time || self.is_closed_for(time) {
                continue;
            }
            let at = EventCursor { time, writer: writer.to_owned(), seq: record.seq };
            let beyond = self.query.after.as_ref().is_none_or(|after| match self.query.order {
                EventOrder::NewestFirst => at < *after,
                EventOrder::OldestFirst => at > *after,
            });
            if beyond {
                self.offer(StoredEvent {
                    writer: at.writer,
                    seq: record.seq,
                    time,
                    name: record.name.to_owned(),
                    user: record.user.map(str::to_owned),
                    // A copy: what is kept of a block must not hold all of it.
                    json: Bytes::copy_from_slice(record.json),
                });
            }
        }
        Ok(())
    }

    /// The page.
    pub fn finish(self) -> EventPage {
        let events = self.best.into_values();
        let events: Vec<_> = match self.query.order {
            EventOrder::NewestFirst => events.rev().collect(),
            EventOrder::OldestFirst => events.collect(),
        };
        let next = events.last().filter(|_| self.more).map(StoredEvent::cursor);
        EventPage { events, next }
    }

    fn worst(&self) -> Option<&StoredEvent> {
        let worst = match self.query.order {
            EventOrder::NewestFirst => self.best.first_key_value(),
            EventOrder::OldestFirst => self.best.last_key_value(),
        };
        worst.map(|(_, event)| event)
    }
}

struct Record<'a> {
    seq: u64,
    time: i64,
    name: &'a str,
    user: Option<&'a str>,
    json: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(rest: &mut &'a [u8]) -> Option<Self> {
        let seq = u64::from_le_bytes(take(rest)?);
        let time = i64::from_le_bytes(take(rest)?);
        let name = u16::from_le_bytes(take(rest)?);
        let name = text(rest, usize::from(name))?;
        let user = match u16::from_le_bytes(take(rest)?) {
            NO_USER => None,
            length => Some(text(rest, usize::from(length))?),
        };
        let length = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
        let (json, after) = rest.split_at_checked(length)?;
        *rest = after;
        Some(Self { seq, time, name, user, json })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

fn text<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a str> {
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, time: i64) -> StoredEvent {
        StoredEvent {
            writer: "w".into(),
            seq,
            time: UnixMillis(time),
            name: if seq.is_multiple_of(7) { "rare".into() } else { "often".into() },
            user: seq.is_multiple_of(2).then(|| "ann".into()),
            json: format!("{{\"seq\":{seq}}}").into(),
        }
    }

    fn events(count: u64) -> Vec<StoredEvent> {
        (1..=count).map(|seq| event(seq, seq as i64)).collect()
    }

    fn opened(blocks: &[Block]) -> Vec<StoredEvent> {
        let query = EventQuery { order: EventOrder::OldestFirst, ..EventQuery::default() };
        let mut page = PageOfEvents::new(&query, 10_000);
        for block in blocks {
            page.open(&block.writer, &block.body).unwrap();
        }
        page.finish().events
    }

    #[test]
    fn what_goes_in_comes_out() {
        let all = events(1000);
        let blocks = pack(&all).unwrap();
        assert_eq!((blocks.len(), blocks[0].first_seq, blocks[0].last_seq), (1, 1, 1000));
        assert_eq!(
            (blocks[0].names.as_str(), blocks[0].users.as_str()),
            ("\noften\nrare\n", "\nann\n")
        );
        assert!(
            blocks[0].names.contains(&listed("rare")) && !blocks[0].names.contains(&listed("are"))
        );
        assert_eq!(opened(&blocks), all);
    }

    #[test]
    fn what_is_no_run_of_one_writer_is_no_block() {
        assert!(pack(&events(MIN_EVENTS as u64 - 1)).is_none());
        let mut gap = events(100);
        gap.remove(50);
        assert!(pack(&gap).is_none());
        let mut two = events(100);
        two[99].writer = "v".into();
        assert!(pack(&two).is_none());
    }

    #[test]
    fn blocks_are_bounded_in_bytes_and_time() {
        let mut all = events(1000);
        for (at, event) in all.iter_mut().enumerate() {
            event.json = vec![b'x'; MAX_EVENT_BYTES].into();
            event.user = Some(format!("{at:0>300}"));
        }
        let blocks = pack(&all).unwrap();
        assert_eq!(blocks.len(), 250);
        assert_eq!(blocks.iter().map(|block| block.count).sum::<u32>(), 1000);
        assert!(blocks.iter().all(|block| block.body.len() < 10_000));
        assert!(!blocks[0].users.is_empty());
        // However large what a block says it holds is, the page has its bound.
        let query = EventQuery::default();
        let mut page = PageOfEvents::new(&query, 1000);
        for block in &blocks {
            page.open(&block.writer, &block.body).unwrap();
        }
        let page = page.finish();
        assert!(page.next.is_some());
        let bytes: usize = page.events.iter().map(|event| event.json.len()).sum();
        assert!((MAX_PAGE_BYTES..MAX_PAGE_BYTES + MAX_EVENT_BYTES).contains(&bytes), "{bytes}");

        let slow: Vec<_> = (1..=100).map(|seq| event(seq, seq as i64 * 120_000)).collect();
        let blocks = pack(&slow).unwrap();
        assert!(blocks.iter().all(|b| b.last_time.0 - b.first_time.0 <= MAX_SPAN_MILLIS));
        assert_eq!(opened(&blocks), slow);
    }

    #[test]
    fn too_many_users_are_not_listed() {
        let mut all = events(100);
        for (at, event) in all.iter_mut().enumerate() {
            event.user = Some(format!("{at:0>300}"));
        }
        assert_eq!(pack(&all).unwrap()[0].users, "");
        for event in &mut all {
            event.user = None;
        }
        assert_eq!(pack(&all).unwrap()[0].users, "\n");
    }

    #[test]
    fn a_body_that_was_not_packed_is_refused() {
        let query = EventQuery::default();
        let mut page = PageOfEvents::new(&query, 10);
        assert!(page.open("w", b"nothing").is_err());
        let bomb = zstd::bulk::compress(&vec![0; MAX_OPENED + 1], 1).unwrap();
        assert!(page.open("w", &bomb).is_err());
        let torn = zstd::bulk::compress(&[0; 30], 1).unwrap();
        assert!(page.open("w", &torn).is_err());
    }
}
