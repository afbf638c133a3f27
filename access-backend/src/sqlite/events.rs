//! The table of audit events.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::errors;
use super::read::stored;
use crate::apply::Outcome;
use crate::{Error, EventOrder, EventPage, EventQuery, MAX_PAGE_BYTES, StoredEvent, UnixMillis};

pub(super) fn append(
    connection: &Connection,
    path: &Path,
    events: &[StoredEvent],
) -> Result<Outcome, Error> {
    let insert = || {
        let mut insert = connection.prepare_cached(
            "INSERT INTO events(writer, seq, time, name, user, json) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT(writer, seq) DO NOTHING",
        )?;
        let mut note = connection.prepare_cached(
            "INSERT INTO event_writers(writer, last_seq) VALUES (?1, ?2)
             ON CONFLICT(writer) DO UPDATE SET last_seq = max(last_seq, excluded.last_seq)",
        )?;
        let mut new = 0;
        let mut highest: BTreeMap<&str, i64> = BTreeMap::new();
        for StoredEvent { writer, seq, time, name, user, json } in events {
            let seq = stored(*seq);
            let inserted = insert.execute(params![writer, seq, time.0, name, user, &json[..]])?;
            if inserted > 0 {
                let highest = highest.entry(writer).or_insert(seq);
                *highest = seq.max(*highest);
                new += 1;
            }
        }
        for (writer, seq) in highest {
            note.execute(params![writer, seq])?;
        }
        Ok(Outcome::Count(new))
    };
    insert().map_err(errors::sql(path))
}

pub(super) fn delete_before(
    connection: &Connection,
    path: &Path,
    time: UnixMillis,
    limit: usize,
) -> Result<Outcome, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "DELETE FROM events WHERE id IN
                (SELECT id FROM events WHERE time < ?1 ORDER BY time, writer, seq LIMIT ?2)",
        )
        .and_then(|mut delete| delete.execute([time.0, limit]))
        .map(|count| Outcome::Count(u64::try_from(count).unwrap_or(u64::MAX)))
        .map_err(errors::sql(path))
}

pub(super) fn last_seq(
    connection: &Connection,
    path: &Path,
    writer: &str,
) -> Result<Option<u64>, Error> {
    connection
        .prepare_cached("SELECT last_seq FROM event_writers WHERE writer = ?1")
        .and_then(|mut select| select.query_row([writer], |row| row.get::<_, i64>(0)).optional())
        .map(|seq| seq.and_then(|seq| u64::try_from(seq).ok()))
        .map_err(errors::sql(path))
}

pub(super) fn search(
    connection: &Connection,
    path: &Path,
    query: &EventQuery,
    limit: usize,
) -> Result<EventPage, Error> {
    let sql = errors::sql(path);
    let (text, values) = statement(query, limit);
    let mut select = connection.prepare_cached(&text).map_err(&sql)?;
    let mut rows = select.query(params_from_iter(values)).map_err(&sql)?;
    let mut page = EventPage::default();
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(&sql)? {
        if page.events.len() >= limit || bytes >= MAX_PAGE_BYTES {
            page.next = page.events.last().map(StoredEvent::cursor);
            break;
        }
        let event = event(row).map_err(&sql)?;
        bytes += event.json.len();
        page.events.push(event);
    }
    Ok(page)
}

/// The query's text, of constant parts alone, and what goes into its places.
fn statement(query: &EventQuery, limit: usize) -> (String, Vec<Sql>) {
    let mut text = String::from("SELECT writer, seq, time, name, user, json FROM events WHERE 1");
    let mut values = Vec::new();
    let (beyond, direction) = match query.order {
        EventOrder::NewestFirst => ('<', "DESC"),
        EventOrder::OldestFirst => ('>', "ASC"),
    };
    if let Some(from) = query.from {
        text.push_str(" AND time >= ?");
        values.push(Sql::Integer(from.0));
    }
    if let Some(to) = query.to {
        text.push_str(" AND time < ?");
        values.push(Sql::Integer(to.0));
    }
    if let Some(user) = &query.user {
        text.push_str(" AND user = ?");
        values.push(Sql::Text(user.clone()));
    }
    if let [name] = query.names.as_slice() {
        text.push_str(" AND name = ?");
        values.push(Sql::Text(name.clone()));
    } else if !query.names.is_empty() {
        // The plus keeps the index of names out of it: several names from there would have to be sorted by time.
        text.push_str(" AND +name IN (?");
        text.push_str(&", ?".repeat(query.names.len() - 1));
        text.push(')');
        values.extend(query.names.iter().cloned().map(Sql::Text));
    }
    if let Some(after) = &query.after {
        text.push_str(&format!(" AND (time, writer, seq) {beyond} (?, ?, ?)"));
        let seq = Sql::Integer(stored(after.seq));
        values.extend([Sql::Integer(after.time.0), Sql::Text(after.writer.clone()), seq]);
    }
    text.push_str(&format!(
        " ORDER BY time {direction}, writer {direction}, seq {direction} LIMIT ?"
    ));
    // One past the page shows whether there is another.
    values.push(Sql::Integer(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)));
    (text, values)
}

fn event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        writer: row.get(0)?,
        seq: u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default(),
        time: UnixMillis(row.get(2)?),
        name: row.get(3)?,
        user: row.get(4)?,
        json: Bytes::from(row.get::<_, Vec<u8>>(5)?),
    })
}
