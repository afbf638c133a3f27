//! Queries of rows, for readers and for the writer.

use std::path::Path;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::errors;
use crate::apply::{Held, Rows};
use crate::page::PageBuilder;
use crate::{Error, Item, Key, KeyRange, Page, Revision, UnixMillis, Value};

pub(super) fn get(connection: &Connection, path: &Path, key: &Key) -> Result<Option<Item>, Error> {
    let sql = errors::sql(path);
    let mut select = connection
        .prepare_cached("SELECT value, expires, revision FROM kv WHERE key = ?1")
        .map_err(&sql)?;
    let found = select
        .query_row([key.as_str().as_bytes()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()
        .map_err(&sql)?;
    found
        .map(|(value, expires, revision)| item(path, key.clone(), value, expires, revision))
        .transpose()
}

/// One page of the live rows in `range`.
pub(super) fn page(
    connection: &Connection,
    path: &Path,
    range: &KeyRange,
    limit: usize,
    now: UnixMillis,
) -> Result<Page, Error> {
    let mut page = PageBuilder::new(limit);
    let wanted = page.wanted();
    scan(connection, path, range, now, Some(wanted), |item| Ok(page.offer(item)))?;
    Ok(page.finish())
}

/// Hands the live rows in `range` to `each` in key order, until it answers `false`.
pub(super) fn scan(
    connection: &Connection,
    path: &Path,
    range: &KeyRange,
    now: UnixMillis,
    limit: Option<usize>,
    mut each: impl FnMut(Item) -> Result<bool, Error>,
) -> Result<(), Error> {
    let sql = errors::sql(path);
    let mut select = connection
        .prepare_cached(match range.end() {
            Some(_) => {
                "SELECT key, value, expires, revision FROM kv
                 WHERE key >= ?1 AND (expires IS NULL OR expires > ?2) AND key < ?4 ORDER BY key LIMIT ?3"
            }
            None => {
                "SELECT key, value, expires, revision FROM kv
                 WHERE key >= ?1 AND (expires IS NULL OR expires > ?2) AND ?4 IS NULL ORDER BY key LIMIT ?3"
            }
        })
        .map_err(&sql)?;
    let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let mut rows = select
        .query(params![range.start().as_bytes(), now.0, limit, range.end().map(str::as_bytes)])
        .map_err(&sql)?;
    while let Some(row) = rows.next().map_err(&sql)? {
        let key = key_of(path, row)?;
        let read = || Ok((row.get::<_, Vec<u8>>(1)?, row.get(2)?, row.get(3)?));
        let (value, expires, revision) = read().map_err(&sql)?;
        if !each(item(path, key, value, expires, revision)?)? {
            break;
        }
    }
    Ok(())
}

/// The number of the last change.
pub(super) fn last_seq(connection: &Connection, path: &Path) -> Result<u64, Error> {
    let last: i64 = connection
        .prepare_cached(
            "SELECT max(log_floor, ifnull((SELECT max(seq) FROM kv_log), 0)) FROM backend_version",
        )
        .and_then(|mut select| select.query_row((), |row| row.get(0)))
        .map_err(errors::sql(path))?;
    u64::try_from(last).map_err(|_| Error::corrupt(path, format!("change number {last}")))
}

/// The keys changed after `from`, each once, with its last change, in the order of those; `None` where the log does not
/// reach back so far or `from` is not of this store.
pub(super) fn since(
    connection: &Connection,
    path: &Path,
    from: u64,
) -> Result<Option<Vec<(Key, u64)>>, Error> {
    let sql = errors::sql(path);
    let Ok(from) = i64::try_from(from) else { return Ok(None) };
    let known: bool = connection
        .prepare_cached(
            "SELECT EXISTS(SELECT 1 FROM kv_log WHERE seq = ?1)
                 OR EXISTS(SELECT 1 FROM backend_version WHERE log_floor = ?1)",
        )
        .and_then(|mut select| select.query_row([from], |row| row.get(0)))
        .map_err(&sql)?;
    if !known {
        return Ok(None);
    }
    let mut select = connection
        .prepare_cached(
            "SELECT key, max(seq) AS last FROM kv_log WHERE seq > ?1 GROUP BY key ORDER BY last",
        )
        .map_err(&sql)?;
    let mut rows = select.query([from]).map_err(&sql)?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next().map_err(&sql)? {
        let seq: i64 = row.get(1).map_err(&sql)?;
        changes.push((key_of(path, row)?, u64::try_from(seq).unwrap_or_default()));
    }
    Ok(Some(changes))
}

/// The rows as the writer's transaction has them.
pub(super) struct Table<'a> {
    pub(super) connection: &'a Connection,
    pub(super) path: &'a Path,
}

impl Table<'_> {
    fn log(&self, key: &Key, seq: u64) -> Result<(), Error> {
        self.connection
            .prepare_cached("INSERT INTO kv_log(seq, key) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![stored(seq), key.as_str().as_bytes()]))
            .map(drop)
            .map_err(errors::sql(self.path))
    }
}

impl Rows for Table<'_> {
    fn held(&mut self, key: &Key) -> Result<Option<Held>, Error> {
        self.connection
            .prepare_cached("SELECT expires, revision FROM kv WHERE key = ?1")
            .and_then(|mut select| {
                let key = [key.as_str().as_bytes()];
                select.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map(|held| {
                held.map(|(expires, seq): (Option<i64>, i64)| Held {
                    expires: expires.map(UnixMillis),
                    revision: revision(seq),
                })
            })
            .map_err(errors::sql(self.path))
    }

    fn read(&mut self, key: &Key) -> Result<Option<Item>, Error> {
        get(self.connection, self.path, key)
    }

    fn write(&mut self, item: &Item, seq: u64) -> Result<(), Error> {
        let revision = u64::try_from(item.revision.to_bits()).unwrap_or_default();
        self.connection
            .prepare_cached(
                "INSERT INTO kv(key, value, expires, revision) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT(key) DO UPDATE SET
                    value = excluded.value, expires = excluded.expires, revision = excluded.revision",
            )
            .and_then(|mut upsert| {
                upsert.execute(params![
                    item.key.as_str().as_bytes(),
                    &item.value[..],
                    item.expires.map(|moment| moment.0),
                    stored(revision),
                ])
            })
            .map_err(errors::sql(self.path))?;
        self.log(&item.key, seq)
    }

    fn remove(&mut self, key: &Key, seq: u64) -> Result<(), Error> {
        self.connection
            .prepare_cached("DELETE FROM kv WHERE key = ?1")
            .and_then(|mut delete| delete.execute([key.as_str().as_bytes()]))
            .map_err(errors::sql(self.path))?;
        self.log(key, seq)
    }

    fn keys_in(&mut self, range: &KeyRange) -> Result<Vec<(Key, Option<UnixMillis>)>, Error> {
        let sql = errors::sql(self.path);
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT key, expires FROM kv WHERE key >= ?1 AND (?2 IS NULL OR key < ?2) ORDER BY key",
            )
            .map_err(&sql)?;
        let bounds = params![range.start().as_bytes(), range.end().map(str::as_bytes)];
        let mut rows = select.query(bounds).map_err(&sql)?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next().map_err(&sql)? {
            let expires: Option<i64> = row.get(1).map_err(&sql)?;
            keys.push((key_of(self.path, row)?, expires.map(UnixMillis)));
        }
        Ok(keys)
    }

    fn expired(&mut self, now: UnixMillis, limit: usize) -> Result<Vec<Key>, Error> {
        let sql = errors::sql(self.path);
        let mut select = self
            .connection
            .prepare_cached("SELECT key FROM kv WHERE expires <= ?1 ORDER BY expires, key LIMIT ?2")
            .map_err(&sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = select.query([now.0, limit]).map_err(&sql)?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next().map_err(&sql)? {
            keys.push(key_of(self.path, row)?);
        }
        Ok(keys)
    }
}

/// SQLite's integers are signed; change numbers stay far below the difference.
pub(super) fn stored(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn revision(seq: i64) -> Revision {
    Revision::from_bits(u64::try_from(seq).unwrap_or_default().into())
}

fn key_of(path: &Path, row: &Row<'_>) -> Result<Key, Error> {
    let text = match row.get_ref(0) {
        Ok(ValueRef::Blob(bytes)) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    text.and_then(|text| Key::parse(text).ok())
        .ok_or_else(|| Error::corrupt(path, "a key is malformed"))
}

fn item(
    path: &Path,
    key: Key,
    value: Vec<u8>,
    expires: Option<i64>,
    seq: i64,
) -> Result<Item, Error> {
    let value = Value::new(value)
        .map_err(|_| Error::corrupt(path, format!("the value of {key} is too large")))?;
    Ok(Item { key, value, expires: expires.map(UnixMillis), revision: revision(seq) })
}

/// Changes of one commit, as the hub takes them.
pub(super) type Changes = Vec<Arc<crate::hub::Change>>;

/// How many rows are stored.
pub(super) fn count(connection: &Connection, path: &Path) -> Result<u64, Error> {
    connection
        .query_row("SELECT count(*) FROM kv", (), |row| row.get::<_, i64>(0))
        .map(|count| u64::try_from(count).unwrap_or_default())
        .map_err(errors::sql(path))
}
