//! The table of audit events.

use std::time::Duration;

use access_backend::{
    Error, EventOrder, EventPage, EventQuery, MAX_PAGE_BYTES, StoredEvent, UnixMillis,
};
use bytes::Bytes;
use futures::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::Engine;
use crate::statements::SEARCH;
use crate::statements::cockroachdb::LATELY;
use crate::store::{Shared, repeat};
use crate::types::column;

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
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let count = repeat!(shared, conn => {
        let statement = conn.prepared(shared.statements().delete_events).await?;
        conn.client.execute(&statement, &[&time.0, &limit]).await.map(Ok)
    })?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

pub(crate) async fn search(
    shared: &Shared,
    query: &EventQuery,
    limit: usize,
) -> Result<EventPage, Error> {
    // What comes late, days after it happened, may be missed by some seconds more.
    let past = query.to.is_some_and(|to| to < shared.now().minus(SETTLED));
    let lately = match shared.options.engine {
        Engine::CockroachDb if past => LATELY,
        _ => "",
    };
    let (text, values) = statement(query, limit, lately);
    repeat!(shared, conn => {
        let params: Vec<(&(dyn ToSql + Sync), Type)> =
            values.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect();
        let rows = conn.client.query_typed_raw(&text, params).await?;
        futures::pin_mut!(rows);
        let mut page = EventPage::default();
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await? {
            if page.events.len() >= limit || bytes >= MAX_PAGE_BYTES {
                page.next = page.events.last().map(StoredEvent::cursor);
                break;
            }
            match event(&row) {
                Ok(event) => {
                    bytes += event.json.len();
                    page.events.push(event);
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(page))
    })
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
    let writer = column::<&[u8]>(row, 0)?.to_vec();
    Ok(StoredEvent {
        writer: String::from_utf8(writer).map_err(|_| crate::types::altered("a writer's name"))?,
        seq: u64::try_from(column::<i64>(row, 1)?).unwrap_or_default(),
        time: UnixMillis(column(row, 2)?),
        name: column(row, 3)?,
        user: column(row, 4)?,
        json: Bytes::from(column::<&[u8]>(row, 5)?.to_vec()),
    })
}

fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
