//! The tables of audit events: rows, and blocks of many.

use std::time::Duration;

use access_backend::engine::{Block, MAX_BLOCK_EVENTS, PageOfEvents, listed};
use access_backend::{
    Error, EventCursor, EventOrder, EventPage, EventQuery, StoredEvent, UnixMillis,
};
use bytes::Bytes;
use futures::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::Engine;
use crate::statements::cockroachdb::LATELY;
use crate::statements::{SEARCH, SEARCH_BLOCKS};
use crate::store::{Shared, is_too_young, repeat};
use crate::types::column;

/// How many blocks of a search are read at once: most pages need no more than one or two.
const BLOCKS: usize = 4;

/// A search that ends so long ago is answered by whatever copy is near: those are some 5 s behind.
const SETTLED: Duration = Duration::from_secs(15);

/// A value of a search's text, and its type.
type Bound = (Box<dyn ToSql + Sync + Send>, Type);

pub(crate) async fn append(shared: &Shared, events: &[StoredEvent]) -> Result<usize, Error> {
    let writers: Vec<&[u8]> = events.iter().map(|event| event.writer.as_bytes()).collect();
    let seqs: Vec<i64> = events.iter().map(|event| number(event.seq)).collect();
    let times: Vec<i64> = events.iter().map(|event| event.time.0).collect();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    let users: Vec<Option<&str>> = events.iter().map(|event| event.user.as_deref()).collect();
    let texts: Vec<&[u8]> = events.iter().map(|event| &event.json[..]).collect();
    // Doing it twice is doing it once, so that a lost answer needs no more than another try.
    let new = repeat!(shared, conn => {
        let statement = conn.prepared(shared.statements().append_events).await?;
        let params: [&(dyn ToSql + Sync); 6] = [&writers, &seqs, &times, &names, &users, &texts];
        let row = conn.client.query_one(&statement, &params).await?;
        Ok(column::<i64>(&row, 0))
    })?;
    Ok(usize::try_from(new).unwrap_or_default())
}

/// Stores blocks of one writer, and says whether: none where one of their numbers may be there already.
pub(crate) async fn append_blocks(shared: &Shared, blocks: &[Block]) -> Result<bool, Error> {
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(false) };
    let (writer, lowest, highest) =
        (first.writer.as_bytes(), number(first.first_seq), number(last.last_seq));
    let firsts: Vec<i64> = blocks.iter().map(|block| number(block.first_seq)).collect();
    let lasts: Vec<i64> = blocks.iter().map(|block| number(block.last_seq)).collect();
    let first_times: Vec<i64> = blocks.iter().map(|block| block.first_time.0).collect();
    let last_times: Vec<i64> = blocks.iter().map(|block| block.last_time.0).collect();
    let counts: Vec<i64> = blocks.iter().map(|block| i64::from(block.count)).collect();
    let names: Vec<&str> = blocks.iter().map(|block| block.names.as_str()).collect();
    let users: Vec<&str> = blocks.iter().map(|block| block.users.as_str()).collect();
    let bodies: Vec<&[u8]> = blocks.iter().map(|block| &block.body[..]).collect();
    // Where the answer is lost, another try finds them there; then it is as if others had been faster.
    let stored = repeat!(shared, conn => {
        let statement = conn.prepared(shared.statements().append_blocks).await?;
        let params: [&(dyn ToSql + Sync); 11] = [
            &writer, &highest, &lowest, &firsts, &lasts, &first_times, &last_times, &counts,
            &names, &users, &bodies,
        ];
        let row = conn.client.query_one(&statement, &params).await?;
        Ok(column::<i64>(&row, 0))
    })?;
    Ok(stored > 0)
}

pub(crate) async fn last_seq(shared: &Shared, writer: &str) -> Result<Option<u64>, Error> {
    let seq = repeat!(shared, conn => {
        let statement = conn.prepared(shared.statements().last_seq).await?;
        let row = conn.client.query_opt(&statement, &[&writer.as_bytes()]).await?;
        Ok(row.map(|row| column::<i64>(&row, 0)).transpose())
    })?;
    Ok(seq.and_then(|seq| u64::try_from(seq).ok()))
}

pub(crate) async fn delete_before(
    shared: &Shared,
    time: UnixMillis,
    limit: usize,
) -> Result<usize, Error> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let count = repeat!(shared, conn => {
        let statement = conn.prepared(shared.statements().delete_events).await?;
        conn.client.execute(&statement, &[&time.0, &most]).await.map(Ok)
    })?;
    let rows = usize::try_from(count).unwrap_or(usize::MAX);
    if rows >= limit {
        return Ok(rows);
    }
    let blocks = ((limit - rows) / MAX_BLOCK_EVENTS).max(1);
    let blocks = i64::try_from(blocks).unwrap_or(i64::MAX);
    let count = repeat!(shared, conn => {
        let statement = conn.prepared(shared.statements().delete_blocks).await?;
        let row = conn.client.query_one(&statement, &[&time.0, &blocks]).await?;
        Ok(column::<i64>(&row, 0))
    })?;
    Ok(rows.saturating_add(usize::try_from(count).unwrap_or_default()))
}

pub(crate) async fn search(
    shared: &Shared,
    query: &EventQuery,
    limit: usize,
) -> Result<EventPage, Error> {
    // What comes late, days after it happened, may be missed by some seconds more.
    let past = query.to.is_some_and(|to| to < shared.now().minus(SETTLED));
    if past && shared.options.engine == Engine::CockroachDb {
        match found(shared, query, limit, LATELY).await? {
            Some(page) => return Ok(page),
            None => tracing::debug!("the tables of events are too young for copies nearby"),
        }
    }
    let page = found(shared, query, limit, "").await?;
    page.ok_or_else(|| crate::types::altered("there are no events"))
}

/// What is found now, or lately; `None` where the tables were not there yet at the moment that is asked for.
async fn found(
    shared: &Shared,
    query: &EventQuery,
    limit: usize,
    lately: &'static str,
) -> Result<Option<EventPage>, Error> {
    let early = |error: &tokio_postgres::Error| !lately.is_empty() && is_too_young(error);
    let (text, values) = statement(query, limit, lately);
    let page = repeat!(shared, conn => {
        let rows = match conn.client.query_typed_raw(&text, typed(&values)).await {
            Err(error) if early(&error) => return Ok(Ok(None)),
            rows => rows?,
        };
        futures::pin_mut!(rows);
        let mut page = PageOfEvents::new(query, limit);
        while let Some(row) = rows.try_next().await? {
            let event = match event(&row) {
                Ok(event) => event,
                Err(error) => return Ok(Err(error)),
            };
            let closed = page.is_closed_for(event.time);
            page.offer(event);
            if closed {
                break;
            }
        }
        Ok(Ok(Some(page)))
    })?;
    let Some(mut page) = page else { return Ok(None) };
    let mut after = None;
    loop {
        let (text, values) = statement_of_blocks(query, after.as_ref(), lately);
        let rows: Option<Vec<Row>> = repeat!(shared, conn => {
            let rows = match conn.client.query_typed_raw(&text, typed(&values)).await {
                Err(error) if early(&error) => return Ok(Ok(None)),
                rows => rows?,
            };
            rows.try_collect().await.map(|rows| Ok(Some(rows)))
        })?;
        let Some(rows) = rows else { return Ok(None) };
        for row in &rows {
            let at = EventCursor::new(UnixMillis(column(row, 3)?), writer(row, 0)?, seq(row, 1)?);
            if page.is_closed_for(at.time()) {
                return Ok(Some(page.finish()));
            }
            page.open(at.writer(), column(row, 2)?).map_err(crate::types::altered)?;
            after = Some(at);
        }
        if rows.len() < BLOCKS {
            return Ok(Some(page.finish()));
        }
    }
}

fn typed(values: &[Bound]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    values.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect()
}

/// The blocks in which there may be something, after one of them: its edge, its writer, its last number.
pub(crate) fn statement_of_blocks(
    query: &EventQuery,
    after: Option<&EventCursor>,
    lately: &'static str,
) -> (String, Vec<Bound>) {
    let (edge, direction, beyond, other) = match query.order {
        EventOrder::NewestFirst => ("last_time", "DESC", '<', "first_time <="),
        EventOrder::OldestFirst => ("first_time", "ASC", '>', "last_time >="),
    };
    let mut text =
        format!("{SEARCH_BLOCKS}, {edge} FROM event_blocks {lately} WHERE true").replace("  ", " ");
    let mut values: Vec<Bound> = Vec::new();
    let mut place = |value: Bound| {
        values.push(value);
        format!("${}", values.len())
    };
    if let Some(from) = query.from {
        text += &format!(" AND last_time >= {}", place((Box::new(from.0), Type::INT8)));
    }
    if let Some(to) = query.to {
        text += &format!(" AND first_time < {}", place((Box::new(to.0), Type::INT8)));
    }
    if let Some(user) = &query.user {
        let user = place((Box::new(listed(user)), Type::TEXT));
        text += &format!(" AND (users = '' OR strpos(users, {user}) > 0)");
    }
    if !query.names.is_empty() {
        let names: Vec<String> = query.names.iter().map(|name| listed(name)).collect();
        let names = place((Box::new(names), Type::TEXT_ARRAY));
        text += &format!(
            " AND (names = '' OR EXISTS (SELECT 1 FROM unnest({names}) AS n (n) \
             WHERE strpos(names, n.n) > 0))"
        );
    }
    if let Some(after) = &query.after {
        text += &format!(" AND {other} {}", place((Box::new(after.time().0), Type::INT8)));
    }
    if let Some(after) = after {
        let time = place((Box::new(after.time().0), Type::INT8));
        let writer = place((Box::new(after.writer().as_bytes().to_vec()), Type::BYTEA));
        let seq = place((Box::new(number(after.seq())), Type::INT8));
        text += &format!(" AND ({edge}, writer, last_seq) {beyond} ({time}, {writer}, {seq})");
    }
    text += &format!(
        " ORDER BY {edge} {direction}, writer {direction}, last_seq {direction} LIMIT {BLOCKS}"
    );
    (text, values)
}

/// The query's text, of constant parts alone, and what goes into its places.
pub(crate) fn statement(
    query: &EventQuery,
    limit: usize,
    lately: &'static str,
) -> (String, Vec<Bound>) {
    let mut text = format!("{SEARCH} {lately} WHERE true").replace("  ", " ");
    let mut values: Vec<Bound> = Vec::new();
    let (beyond, direction) = match query.order {
        EventOrder::NewestFirst => ('<', "DESC"),
        EventOrder::OldestFirst => ('>', "ASC"),
    };
    let mut place = |value: Bound| {
        values.push(value);
        format!("${}", values.len())
    };
    if let Some(from) = query.from {
        text += &format!(" AND time >= {}", place((Box::new(from.0), Type::INT8)));
    }
    if let Some(to) = query.to {
        text += &format!(" AND time < {}", place((Box::new(to.0), Type::INT8)));
    }
    if let Some(user) = &query.user {
        text += &format!(" AND \"user\" = {}", place((Box::new(user.clone()), Type::TEXT)));
    }
    if let [name] = query.names.as_slice() {
        text += &format!(" AND name = {}", place((Box::new(name.clone()), Type::TEXT)));
    } else if !query.names.is_empty() {
        let names = place((Box::new(query.names.clone()), Type::TEXT_ARRAY));
        text += &format!(" AND name = ANY ({names})");
    }
    if let Some(after) = &query.after {
        let time = place((Box::new(after.time().0), Type::INT8));
        let writer = place((Box::new(after.writer().as_bytes().to_vec()), Type::BYTEA));
        let seq = place((Box::new(number(after.seq())), Type::INT8));
        text += &format!(" AND (time, writer, seq) {beyond} ({time}, {writer}, {seq})");
    }
    // One past the page shows whether there is another.
    let limit = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let limit = place((Box::new(limit), Type::INT8));
    text +=
        &format!(" ORDER BY time {direction}, writer {direction}, seq {direction} LIMIT {limit}");
    (text, values)
}

fn event(row: &Row) -> Result<StoredEvent, Error> {
    Ok(StoredEvent {
        writer: writer(row, 0)?,
        seq: seq(row, 1)?,
        time: UnixMillis(column(row, 2)?),
        name: column(row, 3)?,
        user: column(row, 4)?,
        json: Bytes::from(column::<&[u8]>(row, 5)?.to_vec()),
    })
}

fn writer(row: &Row, at: usize) -> Result<String, Error> {
    let writer = column::<&[u8]>(row, at)?.to_vec();
    String::from_utf8(writer).map_err(|_| crate::types::altered("a writer's name"))
}

fn seq(row: &Row, at: usize) -> Result<u64, Error> {
    Ok(u64::try_from(column::<i64>(row, at)?).unwrap_or_default())
}

fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
