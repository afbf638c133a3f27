//! Writes: what is sent for each, and what the answer means.

use std::collections::HashSet;

use access_backend::{
    Batch, Error, Expect, Key, KeyRange, NewItem, Operation, Revision, UnixMillis,
};
use futures::future;
use tokio_postgres::types::ToSql;

use crate::conn::{Conn, in_order};
use crate::statements::{Statements, tx};
use crate::types::{Moment, Uuid};

type Sent<T> = Result<T, tokio_postgres::Error>;
type Param<'a> = &'a (dyn ToSql + Sync);

/// A write.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create(NewItem),
    Put(NewItem),
    Update(NewItem, Revision),
    Delete(Key),
    DeleteIf(Key, Revision),
    DeleteRange(KeyRange),
    KeepAlive { key: Key, expected: Option<Revision>, expires: UnixMillis },
    Batch(Batch),
    Sweep { limit: usize },
}

/// What became of a write that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// So many rows were written.
    Rows(u64),
    /// So many live rows were deleted.
    Cleared(u64),
    /// The condition of this index does not hold.
    Failed(usize),
}

impl Op {
    /// The key of a write of one row.
    pub(crate) fn key(&self) -> Option<&Key> {
        match self {
            Self::Create(item) | Self::Put(item) | Self::Update(item, _) => Some(&item.key),
            Self::Delete(key) | Self::DeleteIf(key, _) | Self::KeepAlive { key, .. } => Some(key),
            Self::DeleteRange(_) | Self::Batch(_) | Self::Sweep { .. } => None,
        }
    }

    /// A key that carries the revision after the write, where there is one.
    pub(crate) fn marked_key(&self) -> Option<&Key> {
        match self {
            Self::Create(item) | Self::Put(item) | Self::Update(item, _) => Some(&item.key),
            Self::KeepAlive { key, .. } => Some(key),
            Self::Batch(batch) => batch.operations.iter().find_map(|operation| match operation {
                Operation::Put(item) => Some(&item.key),
                Operation::Delete(_) => None,
            }),
            Self::Delete(_) | Self::DeleteIf(..) | Self::DeleteRange(_) | Self::Sweep { .. } => {
                None
            }
        }
    }

    /// A row that the write puts an end to as it is, and the revision that it demands of that.
    pub(crate) fn replaced(&self) -> Option<(&Key, Revision)> {
        match self {
            Self::Update(NewItem { key, .. }, expected)
            | Self::DeleteIf(key, expected)
            | Self::KeepAlive { key, expected: Some(expected), .. } => Some((key, *expected)),
            Self::Batch(batch) => batch.conditions.iter().find_map(|condition| {
                let written = || batch.operations.iter().any(|write| *write.key() == condition.key);
                match condition.expect {
                    Expect::Revision(expected) if written() => Some((&condition.key, expected)),
                    _ => None,
                }
            }),
            _ => None,
        }
    }

    /// Whether it would delete this row, were that there.
    pub(crate) fn deletes(&self, key: &Key) -> bool {
        match self {
            Self::Delete(own) | Self::DeleteIf(own, _) => own == key,
            Self::DeleteRange(range) => range.contains(key),
            Self::Batch(batch) => batch
                .operations
                .iter()
                .any(|write| matches!(write, Operation::Delete(own) if own == key)),
            _ => false,
        }
    }

    /// Sends it, as one transaction.
    pub(crate) async fn send(
        &self,
        conn: &Conn,
        statements: &'static Statements,
        revision: Uuid,
        now: UnixMillis,
    ) -> Sent<Outcome> {
        let now = Moment(now);
        let rows = match self {
            Self::Create(item) => {
                let (key, value, expires) = parts(item);
                let params: [Param<'_>; 5] = [&key, &value, &expires, &revision, &now];
                execute(conn, statements.create, &params).await?
            }
            Self::Put(item) => {
                let (key, value, expires) = parts(item);
                let params: [Param<'_>; 4] = [&key, &value, &expires, &revision];
                execute(conn, statements.put, &params).await?
            }
            Self::Update(item, expected) => {
                let (key, value, expires) = parts(item);
                let expected = Uuid(*expected);
                let params: [Param<'_>; 6] = [&key, &value, &expires, &revision, &now, &expected];
                execute(conn, statements.update, &params).await?
            }
            Self::Delete(key) => {
                execute(conn, statements.delete, &[&bytes(key), &revision, &now]).await?
            }
            Self::DeleteIf(key, expected) => {
                let params: [Param<'_>; 4] = [&bytes(key), &revision, &now, &Uuid(*expected)];
                execute(conn, statements.delete_if, &params).await?
            }
            Self::KeepAlive { key, expected: None, expires } => {
                let params: [Param<'_>; 4] = [&bytes(key), &Moment(*expires), &revision, &now];
                execute(conn, statements.keep_alive, &params).await?
            }
            Self::KeepAlive { key, expected: Some(expected), expires } => {
                let (key, expires, expected) = (bytes(key), Moment(*expires), Uuid(*expected));
                let params: [Param<'_>; 5] = [&key, &expires, &revision, &now, &expected];
                execute(conn, statements.keep_alive_if, &params).await?
            }
            Self::DeleteRange(range) => {
                return delete_range(conn, statements, range, revision, now).await;
            }
            Self::Batch(batch) => return send_batch(conn, statements, batch, revision, now).await,
            Self::Sweep { limit } => {
                let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
                execute(conn, statements.sweep, &[&now, &limit, &revision]).await?
            }
        };
        Ok(Outcome::Rows(rows))
    }
}

async fn execute(conn: &Conn, text: &'static str, params: &[Param<'_>]) -> Sent<u64> {
    let statement = conn.prepared(text).await?;
    conn.client.execute(&statement, params).await
}

async fn delete_range(
    conn: &Conn,
    statements: &'static Statements,
    range: &KeyRange,
    revision: Uuid,
    now: Moment,
) -> Sent<Outcome> {
    let statement = conn.prepared(statements.delete_range).await?;
    let (start, end) = bounds(range);
    let params: [Param<'_>; 4] = [&start, &end, &now, &revision];
    let delete = conn.client.query_one(&statement, &params);
    let row = match statements.delete_range_lock {
        Some(lock) => in_transaction(conn, lock, &[], delete).await?,
        None => delete.await?,
    };
    let cleared: i64 = row.try_get(0)?;
    Ok(Outcome::Cleared(u64::try_from(cleared).unwrap_or_default()))
}

/// Sends a transaction of two statements in one go. Where the first fails, so does the second, and the commit is an end.
async fn in_transaction<T>(
    conn: &Conn,
    first: &'static str,
    params: &[Param<'_>],
    second: impl Future<Output = Sent<T>>,
) -> Sent<T> {
    let first = conn.prepared(first).await?;
    conn.set_open(true);
    let begin = conn.client.batch_execute(tx::BEGIN);
    let head = in_order(begin, conn.client.execute(&first, params));
    let tail = in_order(second, conn.client.batch_execute(tx::COMMIT));
    let ((begun, first), (second, committed)) = in_order(head, tail).await;
    conn.set_open(false);
    begun?;
    first?;
    let second = second?;
    committed?;
    Ok(second)
}

/// A batch taken apart into what statements bind.
#[derive(Default)]
struct Parts<'a> {
    wanted: Vec<&'a [u8]>,
    wants: Vec<i16>,
    revisions: Vec<Option<Uuid>>,
    /// Keys that are looked at and not written.
    looked_at: Vec<&'a [u8]>,
    /// Keys that are looked at and written.
    own: Vec<&'a [u8]>,
    keys: Vec<&'a [u8]>,
    values: Vec<&'a [u8]>,
    expiries: Vec<Option<Moment>>,
    orders: Vec<i32>,
    deleted: Vec<&'a [u8]>,
    delete_orders: Vec<i32>,
    /// Keys that may be absent and have to stay so until the end of the transaction.
    held: Vec<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn of(batch: &'a Batch) -> Self {
        let mut parts = Self::default();
        let mut written = HashSet::new();
        for (order, operation) in (1..).zip(&batch.operations) {
            match operation {
                Operation::Put(item) => {
                    let (key, value, expires) = self::parts(item);
                    written.insert(key);
                    parts.keys.push(key);
                    parts.values.push(value);
                    parts.expiries.push(expires);
                    parts.orders.push(order);
                }
                Operation::Delete(key) => {
                    let key = bytes(key);
                    written.insert(key);
                    parts.deleted.push(key);
                    parts.delete_orders.push(order);
                    parts.held.push(key);
                }
            }
        }
        let mut looked_at = HashSet::new();
        for condition in &batch.conditions {
            let key = bytes(&condition.key);
            let (want, revision) = match condition.expect {
                Expect::Absent => (0, None),
                Expect::Present => (1, None),
                Expect::Revision(revision) => (2, Some(Uuid(revision))),
            };
            parts.wanted.push(key);
            parts.wants.push(want);
            parts.revisions.push(revision);
            let mine = written.contains(key);
            if looked_at.insert(key) {
                if mine { parts.own.push(key) } else { parts.looked_at.push(key) }
            }
            if mine {
                continue;
            }
            if want == 0 && !parts.held.contains(&key) {
                parts.held.push(key);
            }
        }
        parts
    }
}

async fn send_batch(
    conn: &Conn,
    statements: &'static Statements,
    batch: &Batch,
    revision: Uuid,
    now: Moment,
) -> Sent<Outcome> {
    let parts = Parts::of(batch);
    let failed = match (statements.batch, statements.batch_hold) {
        (Some(whole), hold) => batch_at_once(conn, whole, hold, &parts, revision, now).await?,
        (None, _) => batch_in_steps(conn, statements, &parts, revision, now).await?,
    };
    // Ordinals begin with one.
    Ok(match failed.and_then(|failed| usize::try_from(failed - 1).ok()) {
        Some(index) => Outcome::Failed(index),
        None => Outcome::Rows(0),
    })
}

async fn batch_at_once(
    conn: &Conn,
    whole: &'static str,
    hold: Option<&'static str>,
    parts: &Parts<'_>,
    revision: Uuid,
    now: Moment,
) -> Sent<Option<i64>> {
    let statement = conn.prepared(whole).await?;
    let params: [Param<'_>; 14] = [
        &parts.wanted,
        &parts.wants,
        &parts.revisions,
        &parts.looked_at,
        &now,
        &revision,
        &parts.keys,
        &parts.values,
        &parts.expiries,
        &parts.orders,
        &parts.deleted,
        &parts.delete_orders,
        &parts.held,
        &parts.own,
    ];
    let write = conn.client.query_one(&statement, &params);
    let row = match hold {
        Some(hold) if !parts.held.is_empty() => {
            in_transaction(conn, hold, &[&parts.held, &revision], write).await?
        }
        _ => write.await?,
    };
    row.try_get(0)
}

/// Two round trips; one where nothing has to be looked at first.
async fn batch_in_steps(
    conn: &Conn,
    statements: &'static Statements,
    parts: &Parts<'_>,
    revision: Uuid,
    now: Moment,
) -> Sent<Option<i64>> {
    let check = conn.prepared(statements.batch_check).await?;
    let put = conn.prepared(statements.batch_put).await?;
    let delete = conn.prepared(statements.batch_delete).await?;
    let client = &conn.client;
    let put_params: [Param<'_>; 4] = [&parts.keys, &parts.values, &parts.expiries, &revision];
    let delete_params: [Param<'_>; 1] = [&parts.deleted];
    // The writes and the commit, all on their way before the first is answered. After a failed one the commit is an end.
    let rest = async {
        let puts = async {
            match parts.keys.is_empty() {
                true => Ok(0),
                false => client.execute(&put, &put_params).await,
            }
        };
        let deletes = async {
            match parts.deleted.is_empty() {
                true => Ok(0),
                false => client.execute(&delete, &delete_params).await,
            }
        };
        let commit = client.batch_execute(tx::COMMIT);
        let (puts, deletes, committed) = future::join3(puts, deletes, commit).await;
        puts.and(deletes).and(committed)
    };
    conn.set_open(true);
    if parts.wanted.is_empty() {
        // There is no answer that has to be known before the end.
        let (begun, done) = in_order(client.batch_execute(tx::BEGIN), rest).await;
        conn.set_open(false);
        begun?;
        return done.map(|()| None);
    }
    let looked: [Param<'_>; 4] = [&parts.wanted, &parts.wants, &parts.revisions, &now];
    let look = client.query_one(&check, &looked);
    let (begun, found) = in_order(client.batch_execute(tx::BEGIN), look).await;
    begun?;
    let failed: Option<i64> = match found.and_then(|row| row.try_get(0)) {
        Ok(failed) => failed,
        Err(error) => {
            rollback(conn).await;
            return Err(error);
        }
    };
    if failed.is_some() {
        rollback(conn).await;
        return Ok(failed);
    }
    let done = rest.await;
    conn.set_open(false);
    done.map(|()| None)
}

/// Ends a transaction; where that fails, the connection is not used again.
async fn rollback(conn: &Conn) {
    if conn.client.batch_execute(tx::ROLLBACK).await.is_ok() {
        conn.set_open(false);
    }
}

fn parts(item: &NewItem) -> (&[u8], &[u8], Option<Moment>) {
    (bytes(&item.key), &item.value, item.expires.map(Moment))
}

pub(crate) fn bytes(key: &Key) -> &[u8] {
    key.as_str().as_bytes()
}

/// The bounds of a range in SQL. No key has the byte 255.
pub(crate) fn bounds(range: &KeyRange) -> (&[u8], &[u8]) {
    (range.start().as_bytes(), range.end().map_or(&[0xff], str::as_bytes))
}

/// What a refused write of one row is called.
pub(crate) fn refusal(op: &Op, found: Option<Revision>) -> Option<Error> {
    let key = op.key()?.clone();
    let expected = match op {
        Op::Create(_) => {
            return found.map(|_| Error::AlreadyExists { key });
        }
        Op::Update(_, expected) | Op::DeleteIf(_, expected) => Some(*expected),
        Op::KeepAlive { expected, .. } => *expected,
        _ => None,
    };
    match (found, expected) {
        (None, _) => Some(Error::NotFound { key }),
        (Some(is), Some(expected)) if is != expected => Some(Error::RevisionMismatch { key }),
        // It has come to be what was expected since: the caller's write has another try.
        _ => None,
    }
}
