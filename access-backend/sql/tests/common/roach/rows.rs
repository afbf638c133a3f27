//! The rows of the store: what each statement on them does.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::values::{
    BYTEA, BYTEAS, FLOAT8, INT2S, INT8, MOMENT, MOMENTS, TEXT, UUID, UUIDS, array, int, of_int,
};
use super::{Done, Shape};

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) value: Bytes,
    pub(super) expires: Option<i64>,
    pub(super) revision: Bytes,
}

pub(super) const SHAPES: &[Shape] = &[
    ("SELECT value,", &[BYTEA], &[BYTEA, MOMENT, UUID]),
    ("SELECT key,", &[BYTEA, BYTEA, MOMENT, INT8], &[BYTEA, BYTEA, MOMENT, UUID]),
    ("SELECT revision FROM kv WHERE key = $1 AND", &[BYTEA, MOMENT], &[UUID]),
    ("SELECT revision", &[BYTEA], &[UUID]),
    ("INSERT INTO kv ", &[BYTEA, BYTEA, MOMENT, UUID, MOMENT], &[]),
    ("UPSERT INTO kv (key, value, expires, revision) VALUES", &[BYTEA, BYTEA, MOMENT, UUID], &[]),
    ("UPSERT INTO kv", &[BYTEAS, BYTEAS, MOMENTS, UUID], &[]),
    ("UPDATE kv SET value", &[BYTEA, BYTEA, MOMENT, UUID, MOMENT, UUID], &[]),
    (
        "UPDATE kv SET expires = $2, revision = $3 WHERE key = $1 AND revision",
        &[BYTEA, MOMENT, UUID, MOMENT, UUID],
        &[],
    ),
    ("UPDATE kv SET expires", &[BYTEA, MOMENT, UUID, MOMENT], &[]),
    (
        "DELETE FROM kv WHERE key = $1 AND $2::uuid IS NOT NULL AND revision",
        &[BYTEA, UUID, MOMENT, UUID],
        &[],
    ),
    ("DELETE FROM kv WHERE key = $1", &[BYTEA, UUID, MOMENT], &[]),
    ("DELETE FROM kv WHERE key = ANY", &[BYTEAS], &[]),
    ("DELETE FROM kv WHERE expires", &[MOMENT, INT8, UUID], &[]),
    ("WITH w AS (DELETE FROM kv", &[BYTEA, BYTEA, MOMENT, UUID], &[INT8]),
    ("SELECT min(c.i)", &[BYTEAS, INT2S, UUIDS, MOMENT], &[INT8]),
    ("SELECT cluster_logical_timestamp", &[], &[TEXT]),
    ("SELECT extract(epoch", &[], &[FLOAT8]),
];

/// Does what a statement says.
pub(super) fn apply(
    rows: &mut BTreeMap<Bytes, Row>,
    text: &str,
    params: &[Option<Bytes>],
    written: &mut Vec<Bytes>,
) -> Option<Done> {
    let bytes = |at: usize| params[at].clone().unwrap();
    let moment = |at: usize| params[at].as_ref().map(int);
    let alive =
        |row: &Row, now: usize| row.expires.is_none_or(|expires| Some(expires) > moment(now));
    let revision_of =
        |row: Option<&Row>| row.map(|row| vec![Some(row.revision.clone())]).into_iter().collect();
    let none = Vec::new();
    let starts = |start: &str| text.starts_with(start);
    let row_of =
        |at: usize| Row { value: bytes(at), expires: moment(at + 1), revision: bytes(at + 2) };
    if starts("SELECT value,") {
        let row = rows.get(&bytes(0));
        return Some((row.map(|row| fields(row).to_vec()).into_iter().collect(), 0));
    }
    if starts("SELECT key,") {
        let limit = usize::try_from(moment(3).unwrap()).unwrap();
        let found = rows.range(bytes(0)..).take_while(|(key, _)| **key < bytes(1));
        let found = found
            .filter(|(_, row)| alive(row, 2))
            .take(limit)
            .map(|(key, row)| std::iter::once(Some(key.clone())).chain(fields(row)).collect());
        return Some((found.collect(), 0));
    }
    if starts("SELECT revision FROM kv WHERE key = $1 AND") {
        return Some((revision_of(rows.get(&bytes(0)).filter(|row| alive(row, 1))), 0));
    }
    if starts("SELECT revision") {
        return Some((revision_of(rows.get(&bytes(0))), 0));
    }
    if starts("SELECT min(c.i)") {
        let (keys, wants, revisions) = (array(&bytes(0)), array(&bytes(1)), array(&bytes(2)));
        let failed =
            (1..).zip(keys).zip(wants).zip(revisions).find(|(((_, key), want), revision)| {
                let row = rows.get(key.as_ref().unwrap()).filter(|row| alive(row, 3));
                match want.as_ref().unwrap()[1] {
                    0 => row.is_some(),
                    1 => row.is_none(),
                    _ => row.map(|row| &row.revision) != revision.as_ref(),
                }
            });
        let failed = failed
            .map(|(((at, _), _), _): (((i64, _), _), _)| Bytes::copy_from_slice(&at.to_be_bytes()));
        return Some((vec![vec![failed]], 0));
    }
    if starts("INSERT INTO kv ") {
        if rows.get(&bytes(0)).is_some_and(|row| alive(row, 4)) {
            return Some((none, 0));
        }
        rows.insert(bytes(0), row_of(1));
        written.push(bytes(0));
        return Some((none, 1));
    }
    if starts("UPSERT INTO kv (key, value, expires, revision) VALUES") {
        rows.insert(bytes(0), row_of(1));
        written.push(bytes(0));
        return Some((none, 1));
    }
    if starts("UPSERT INTO kv") {
        let (keys, values, moments) = (array(&bytes(0)), array(&bytes(1)), array(&bytes(2)));
        for ((key, value), expires) in keys.into_iter().zip(values).zip(moments) {
            let expires = expires.map(|raw| i64::from_be_bytes(raw[..].try_into().unwrap()));
            let row = Row { value: value.unwrap(), expires, revision: bytes(3) };
            rows.insert(key.clone().unwrap(), row);
            written.extend(key);
        }
        return Some((none, 1));
    }
    if starts("UPDATE kv SET value") {
        let found = rows.get(&bytes(0)).filter(|row| alive(row, 4) && row.revision == bytes(5));
        if found.is_none() {
            return Some((none, 0));
        }
        rows.insert(bytes(0), row_of(1));
        written.push(bytes(0));
        return Some((none, 1));
    }
    if starts("UPDATE kv SET expires") {
        let expected = params.get(4).cloned().flatten();
        let found = rows.get_mut(&bytes(0)).filter(|row| {
            alive(row, 3) && expected.as_ref().is_none_or(|expected| row.revision == *expected)
        });
        let Some(row) = found else { return Some((none, 0)) };
        (row.expires, row.revision) = (moment(1), bytes(2));
        written.push(bytes(0));
        return Some((none, 1));
    }
    if starts("DELETE FROM kv WHERE key = $1") {
        let expected = params.get(3).cloned().flatten();
        let found = rows.get(&bytes(0)).filter(|row| {
            alive(row, 2) && expected.as_ref().is_none_or(|expected| row.revision == *expected)
        });
        if found.is_none() {
            return Some((none, 0));
        }
        rows.remove(&bytes(0));
        written.push(bytes(0));
        return Some((none, 1));
    }
    let mut cleared: i64 = 0;
    let gone: Vec<Bytes> = if starts("DELETE FROM kv WHERE key = ANY") {
        array(&bytes(0)).into_iter().flatten().collect()
    } else if starts("WITH w AS (DELETE FROM kv") {
        let found = rows.range(bytes(0)..).take_while(|(key, _)| **key < bytes(1));
        found
            .map(|(key, row)| {
                cleared += i64::from(alive(row, 2));
                key.clone()
            })
            .collect()
    } else if starts("DELETE FROM kv WHERE expires") {
        let mut gone: Vec<_> = rows.iter().filter(|(_, row)| !alive(row, 0)).collect();
        gone.sort_by_key(|(key, row)| (row.expires, (*key).clone()));
        let limit = usize::try_from(moment(1).unwrap()).unwrap();
        gone.into_iter().take(limit).map(|(key, _)| key.clone()).collect()
    } else {
        return None;
    };
    let mut count = 0;
    for key in gone {
        if rows.remove(&key).is_some() {
            written.push(key);
            count += 1;
        }
    }
    Some((vec![vec![of_int(cleared)]], count))
}

fn fields(row: &Row) -> [Option<Bytes>; 3] {
    let expires = row.expires.map(|expires| Bytes::copy_from_slice(&expires.to_be_bytes()));
    [Some(row.value.clone()), expires, Some(row.revision.clone())]
}
