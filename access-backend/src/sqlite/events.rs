//! The tables of audit events: rows, and blocks of many.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::errors;
use super::read::stored;
use crate::apply::Outcome;
use crate::blocks::{Block, MAX_EVENTS, PageOfEvents, listed};
use crate::{Error, EventOrder, EventPage, EventQuery, StoredEvent, UnixMillis};

/// Stores events: as the blocks that were made of them, unless some of their numbers may be there already.
pub(super) fn append(
    connection: &Connection,
    path: &Path,
    events: &[StoredEvent],
    blocks: Option<&[Block]>,
) -> Result<Outcome, Error> {
    if let (Some(blocks), Some(first)) = (blocks, events.first())
        && last_seq(connection, path, &first.writer)?.is_none_or(|last| first.seq > last)
    {
        append_blocks(connection, blocks).map_err(errors::sql(path))?;
        return Ok(Outcome::Count(u64::try_from(events.len()).unwrap_or(u64::MAX)));
    }
    append_rows(connection, events).map_err(errors::sql(path))
}

const NOTE: &str = "INSERT INTO event_writers(writer, last_seq) VALUES (?1, ?2)
     ON CONFLICT(writer) DO UPDATE SET last_seq = max(last_seq, excluded.last_seq)";

fn append_blocks(connection: &Connection, blocks: &[Block]) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO event_blocks
            (writer, first_seq, last_seq, first_time, last_time, count, names, users, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for block in blocks {
        let Block { writer, first_seq, last_seq, first_time, last_time, count, .. } = block;
        let (first, last) = (stored(*first_seq), stored(*last_seq));
        let (names, users, body) = (&block.names, &block.users, &block.body);
        insert.execute(params![
            writer,
            first,
            last,
            first_time.0,
            last_time.0,
            count,
            names,
            users,
            body
        ])?;
    }
    if let Some(last) = blocks.last() {
        connection.prepare_cached(NOTE)?.execute(params![last.writer, stored(last.last_seq)])?;
    }
    Ok(())
}

fn append_rows(connection: &Connection, events: &[StoredEvent]) -> rusqlite::Result<Outcome> {
    // A block has all numbers between its first and its last.
    let mut insert = connection.prepare_cached(
        "INSERT INTO events(writer, seq, time, name, user, json) SELECT ?1, ?2, ?3, ?4, ?5, ?6
         WHERE coalesce((SELECT first_seq > ?2 FROM event_blocks
            WHERE writer = ?1 AND last_seq >= ?2 ORDER BY last_seq LIMIT 1), true)
         ON CONFLICT(writer, seq) DO NOTHING",
    )?;
    let mut note = connection.prepare_cached(NOTE)?;
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
}

pub(super) fn delete_before(
    connection: &Connection,
    path: &Path,
    time: UnixMillis,
    limit: usize,
) -> Result<Outcome, Error> {
    let delete = || {
        let rows = connection
            .prepare_cached(
                "DELETE FROM events WHERE id IN
                    (SELECT id FROM events WHERE time < ?1 ORDER BY time, writer, seq LIMIT ?2)",
            )?
            .execute(params![time.0, i64::try_from(limit).unwrap_or(i64::MAX)])?;
        if rows >= limit {
            return Ok(u64::try_from(rows).unwrap_or(u64::MAX));
        }
        let blocks = ((limit - rows) / MAX_EVENTS).max(1);
        let mut delete = connection.prepare_cached(
            "DELETE FROM event_blocks WHERE id IN
                (SELECT id FROM event_blocks WHERE last_time < ?1 ORDER BY last_time LIMIT ?2)
             RETURNING count",
        )?;
        let counts = delete
            .query_map(params![time.0, i64::try_from(blocks).unwrap_or(i64::MAX)], |row| {
                row.get::<_, u32>(0)
            })?;
        let mut gone = u64::try_from(rows).unwrap_or(u64::MAX);
        for count in counts {
            gone = gone.saturating_add(count?.into());
        }
        Ok(gone)
    };
    delete().map(Outcome::Count).map_err(errors::sql(path))
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
    let mut page = PageOfEvents::new(query, limit);
    let (text, values) = statement(query, limit);
    let mut select = connection.prepare_cached(&text).map_err(&sql)?;
    let mut rows = select.query(params_from_iter(values)).map_err(&sql)?;
    while let Some(row) = rows.next().map_err(&sql)? {
        let event = event(row).map_err(&sql)?;
        let closed = page.is_closed_for(event.time);
        page.offer(event);
        if closed {
            break;
        }
    }
    let (text, values) = statement_of_blocks(query);
    let mut select = connection.prepare_cached(&text).map_err(&sql)?;
    let mut blocks = select.query(params_from_iter(values)).map_err(&sql)?;
    while let Some(block) = blocks.next().map_err(&sql)? {
        if page.is_closed_for(UnixMillis(block.get(0).map_err(&sql)?)) {
            break;
        }
        let writer: String = block.get(1).map_err(&sql)?;
        let body: Vec<u8> = block.get(2).map_err(&sql)?;
        page.open(&writer, &body).map_err(|why| Error::corrupt(path, why.to_owned()))?;
    }
    Ok(page.finish())
}

/// The blocks in which there may be something, those first that begin first in the order of the search.
fn statement_of_blocks(query: &EventQuery) -> (String, Vec<Sql>) {
    let (edge, direction, other) = match query.order {
        EventOrder::NewestFirst => ("last_time", "DESC", "first_time <= ?"),
        EventOrder::OldestFirst => ("first_time", "ASC", "last_time >= ?"),
    };
    let mut text = format!("SELECT {edge}, writer, body FROM event_blocks WHERE 1");
    let mut values = Vec::new();
    if let Some(from) = query.from {
        text.push_str(" AND last_time >= ?");
        values.push(Sql::Integer(from.0));
    }
    if let Some(to) = query.to {
        text.push_str(" AND first_time < ?");
        values.push(Sql::Integer(to.0));
    }
    if let Some(user) = &query.user {
        text.push_str(" AND (users = '' OR instr(users, ?) > 0)");
        values.push(Sql::Text(listed(user)));
    }
    if !query.names.is_empty() {
        text.push_str(" AND (names = ''");
        text.push_str(&" OR instr(names, ?) > 0".repeat(query.names.len()));
        text.push(')');
        values.extend(query.names.iter().map(|name| Sql::Text(listed(name))));
    }
    if let Some(after) = &query.after {
        text.push_str(" AND ");
        text.push_str(other);
        values.push(Sql::Integer(after.time.0));
    }
    text.push_str(&format!(" ORDER BY {edge} {direction}"));
    (text, values)
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
