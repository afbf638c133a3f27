//! Events in memory, in the order of searches. They stay until retention deletes them.

use std::collections::{BTreeMap, HashMap};

use crate::{
    EventCursor, EventOrder, EventPage, EventQuery, MAX_PAGE_BYTES, StoredEvent, UnixMillis,
};

#[derive(Debug, Default)]
pub(super) struct EventLog {
    events: BTreeMap<EventCursor, StoredEvent>,
    /// When each stored event happened, by writer and number.
    known: HashMap<String, BTreeMap<u64, UnixMillis>>,
    last: HashMap<String, u64>,
}

impl EventLog {
    pub(super) fn append(&mut self, events: Vec<StoredEvent>) -> usize {
        let mut new = 0;
        for event in events {
            let known = self.known.entry(event.writer.clone()).or_default();
            if known.contains_key(&event.seq) {
                continue;
            }
            known.insert(event.seq, event.time);
            let last = self.last.entry(event.writer.clone()).or_default();
            *last = event.seq.max(*last);
            self.events.insert(event.cursor(), event);
            new += 1;
        }
        new
    }

    pub(super) fn search(&self, query: &EventQuery, limit: usize) -> EventPage {
        match query.order {
            EventOrder::OldestFirst => {
                page(self.events.iter(), query, limit, |at, after| at > after)
            }
            EventOrder::NewestFirst => {
                page(self.events.iter().rev(), query, limit, |at, after| at < after)
            }
        }
    }

    pub(super) fn last_seq(&self, writer: &str) -> Option<u64> {
        self.last.get(writer).copied()
    }

    pub(super) fn delete_before(&mut self, time: UnixMillis, limit: usize) -> usize {
        let mut deleted = 0;
        while deleted < limit {
            let Some(first) = self.events.first_entry().filter(|first| first.key().time < time)
            else {
                break;
            };
            let event = first.remove();
            if let Some(known) = self.known.get_mut(&event.writer) {
                known.remove(&event.seq);
            }
            deleted += 1;
        }
        deleted
    }
}

fn page<'a>(
    events: impl Iterator<Item = (&'a EventCursor, &'a StoredEvent)>,
    query: &EventQuery,
    limit: usize,
    beyond: impl Fn(&EventCursor, &EventCursor) -> bool,
) -> EventPage {
    let mut page = EventPage::default();
    let mut bytes = 0;
    for (at, event) in events {
        let matches = query.after.as_ref().is_none_or(|after| beyond(at, after))
            && query.from.is_none_or(|from| event.time >= from)
            && query.to.is_none_or(|to| event.time < to)
            && query.user.as_ref().is_none_or(|user| event.user.as_ref() == Some(user))
            && (query.names.is_empty() || query.names.contains(&event.name));
        if !matches {
            continue;
        }
        if page.events.len() >= limit || bytes >= MAX_PAGE_BYTES {
            page.next = page.events.last().map(StoredEvent::cursor);
            break;
        }
        bytes += event.json.len();
        page.events.push(event.clone());
    }
    page
}
