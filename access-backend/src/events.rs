//! Append-only audit events, kept beside the rows and apart from them.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Error, UnixMillis};

/// The most events of one [`EventStore::append`].
pub const MAX_APPEND_EVENTS: usize = 1000;

/// The most bytes of [`StoredEvent::json`].
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// The most bytes of each text of an event: writer, name, user.
pub const MAX_EVENT_TEXT: usize = 512;

/// The most events that one page of a search holds, whatever was asked for.
pub const MAX_EVENT_PAGE: usize = 1000;

/// An event as it is stored. The store looks into nothing but these fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Who numbered it: one process's spool.
    pub writer: String,
    /// Its number with that writer, up to `i64::MAX`.
    pub seq: u64,
    /// When it happened.
    pub time: UnixMillis,
    /// What kind it is: `session.start`.
    pub name: String,
    /// Whom it is about.
    pub user: Option<String>,
    /// The whole event.
    pub json: Bytes,
}

/// What a search looks for; every field narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Not before this moment.
    pub from: Option<UnixMillis>,
    /// Before this moment.
    pub to: Option<UnixMillis>,
    /// Of one of these names; of any, if empty. At most 64.
    pub names: Vec<String>,
    /// About this user.
    pub user: Option<String>,
    /// Which come first.
    pub order: EventOrder,
    /// How many to answer with: between 1 and [`MAX_EVENT_PAGE`] whatever is asked. A page also ends after
    /// [`MAX_PAGE_BYTES`](crate::MAX_PAGE_BYTES).
    pub limit: usize,
    /// Where the page begins; from [`EventPage::next`].
    pub after: Option<EventCursor>,
}

/// The order of a search: by time, then writer, then number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventOrder {
    /// The latest first.
    #[default]
    NewestFirst,
    /// The earliest first.
    OldestFirst,
}

/// Some events of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events, in the order asked for.
    pub events: Vec<StoredEvent>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<EventCursor>,
}

/// The last event of a page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventCursor {
    pub(crate) time: UnixMillis,
    pub(crate) writer: String,
    pub(crate) seq: u64,
}

impl EventCursor {
    /// The place of an event; for engines.
    pub fn new(time: UnixMillis, writer: String, seq: u64) -> Self {
        Self { time, writer, seq }
    }

    /// When the event happened; for engines, as the other two.
    pub fn time(&self) -> UnixMillis {
        self.time
    }

    /// Who numbered it.
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// Its number with that writer.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

/// A store of events that is only appended to, apart from retention.
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// Stores events, all or none of them, and says how many were new: one of a writer and number that is already
    /// there is left as it is. They are durable when this returns.
    ///
    /// # Errors
    /// Those of [`validate_events`] and of the storage.
    async fn append(&self, events: Vec<StoredEvent>) -> Result<usize, Error>;

    /// Finds events.
    ///
    /// # Errors
    /// [`Error::Invalid`] past 64 names, and those of the storage.
    async fn search(&self, query: &EventQuery) -> Result<EventPage, Error>;

    /// The highest number ever stored of a writer, also of events that have been deleted since.
    ///
    /// # Errors
    /// Those of the storage.
    async fn last_seq(&self, writer: &str) -> Result<Option<u64>, Error>;

    /// Deletes about `limit` of the oldest events from before `time`, and says how many. Call it until it says 0:
    /// each call is one short transaction.
    ///
    /// Events of which many came in one [`append`](EventStore::append) may be kept, and go, together: then a call may
    /// delete up to [`MAX_APPEND_EVENTS`] of them when fewer were asked for, and such an event may stay for as long as
    /// others of its group are not from before `time`, which is an hour at most.
    ///
    /// # Errors
    /// Those of the storage.
    async fn delete_before(&self, time: UnixMillis, limit: usize) -> Result<usize, Error>;
}

/// Checks the bounds of events; every engine calls this before it writes any.
///
/// # Errors
/// [`Error::TooLarge`] past a bound of this module, [`Error::Invalid`] where one batch has a writer's number twice.
pub fn validate_events(events: &[StoredEvent]) -> Result<(), Error> {
    let check = |what, size, limit| {
        if size > limit { Err(Error::TooLarge { what, size, limit }) } else { Ok(()) }
    };
    check("append in events", events.len(), MAX_APPEND_EVENTS)?;
    // In order, as they mostly come, none is there twice.
    let ascend = |a: &StoredEvent, b: &StoredEvent| a.seq < b.seq && a.writer == b.writer;
    let mut seen = (!events.is_sorted_by(ascend)).then(HashSet::new);
    for event in events {
        check("event in bytes", event.json.len(), MAX_EVENT_BYTES)?;
        check("event's writer in bytes", event.writer.len(), MAX_EVENT_TEXT)?;
        check("event's name in bytes", event.name.len(), MAX_EVENT_TEXT)?;
        check("event's user in bytes", event.user.as_ref().map_or(0, String::len), MAX_EVENT_TEXT)?;
        if i64::try_from(event.seq).is_err() {
            return Err(Error::invalid("event", format!("number {} is out of range", event.seq)));
        }
        if seen.as_mut().is_some_and(|seen| !seen.insert((&event.writer, event.seq))) {
            let reason = format!("number {} of writer {} is in it twice", event.seq, event.writer);
            return Err(Error::invalid("append", reason));
        }
    }
    Ok(())
}

impl EventQuery {
    /// Checks the query and answers with the page size to use; for engines.
    ///
    /// # Errors
    /// [`Error::Invalid`] past 64 names.
    pub fn validate(&self) -> Result<usize, Error> {
        if self.names.len() > 64 {
            return Err(Error::invalid("search", "it names more than 64 kinds of event"));
        }
        Ok(self.limit.clamp(1, MAX_EVENT_PAGE))
    }
}

impl StoredEvent {
    /// The place of the event in the order of searches.
    pub fn cursor(&self) -> EventCursor {
        EventCursor { time: self.time, writer: self.writer.clone(), seq: self.seq }
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.time, self.seq, self.writer)
    }
}

impl FromStr for EventCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.splitn(3, '.');
        let time = parts.next().and_then(|part| part.parse().ok()).map(UnixMillis);
        let seq = parts.next().and_then(|part| part.parse().ok());
        match (time, seq, parts.next()) {
            (Some(time), Some(seq), Some(writer)) if i64::try_from(seq).is_ok() => {
                Ok(Self { time, writer: writer.to_owned(), seq })
            }
            _ => Err(Error::invalid("event cursor", "it was not made by a search")),
        }
    }
}

impl TryFrom<String> for EventCursor {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<EventCursor> for String {
    fn from(cursor: EventCursor) -> Self {
        cursor.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_from_its_text() {
        let cursor = EventCursor { time: UnixMillis(-5), writer: "host.1/α".into(), seq: 7 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "1", "1.2", "x.2.w", "1.-2.w", "1.18446744073709551615.w"] {
            assert!(bad.parse::<EventCursor>().is_err(), "{bad}");
        }
    }
}
