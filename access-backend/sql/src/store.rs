//! The store: reads, writes, and how often they are tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use access_backend::engine::{Hub, PageBuilder};
use access_backend::{Cursor, Error, Item, Key, KeyRange, Page, Revision, UnixMillis};
use futures::TryStreamExt;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::SqlOptions;
use crate::errors::{Failure, unavailable};
use crate::feed::Feed;
use crate::lost::Lost;
use crate::pool::{Pool, jittered};
use crate::statements::Statements;
use crate::statements::postgres::log;
use crate::types::{Moment, Uuid, column, item, rest};
use crate::write::{Op, Outcome, bounds, bytes, refusal};

/// How often a transaction that met others is tried.
const MOST_TRIES: u32 = 64;
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(2);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What the handles and the feed of one store share.
pub(crate) struct Shared {
    pub(crate) options: SqlOptions,
    pub(crate) pool: Pool,
    pub(crate) hub: Arc<Hub>,
    pub(crate) feed: Feed,
    pub(crate) counters: Counters,
    /// Snapshots of watches that are read at once: they leave connections to others.
    pub(crate) snapshots: Semaphore,
    /// Turns true when the store closes.
    pub(crate) closing: watch::Sender<bool>,
}

/// What a store went through since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    retries: AtomicU64,
    lost: AtomicU64,
    resolved: AtomicU64,
    pub(crate) unresolved: AtomicU64,
}

/// What a store went through since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Transactions that met others and were tried again.
    pub retries: u64,
    /// Writes during which the connection broke.
    pub lost: u64,
    /// Those of them that turned out to have been committed.
    pub resolved: u64,
    /// Those of them of which nothing tells whether they were. On PostgreSQL none while its log goes back far enough; on
    /// CockroachDB deletes of what was gone afterwards, and writes for which the feed did not come in time.
    pub unresolved: u64,
}

impl Counters {
    fn retried(&self) {
        count(&self.retries, "access_backend_sql_retries_total");
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            retries: self.retries.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            resolved: self.resolved.load(Ordering::Relaxed),
            unresolved: self.unresolved.load(Ordering::Relaxed),
        }
    }
}

/// Runs what can be repeated until it is answered or there is no more patience. The expression may use `?` on the
/// database's errors, and its value is a result with ours.
macro_rules! repeat {
    ($shared:expr, $conn:ident => $work:expr) => {{
        let mut tries = $crate::store::Tries::new(&$shared.pool, &$shared.counters);
        loop {
            let $conn = $shared.pool.get(tries.deadline).await?;
            let told = $conn.bounded(async { $work }).await;
            drop($conn);
            match told {
                Ok(done) => break done,
                Err(error) => tries.failed(error.judge($shared.pool.dialer())).await?,
            }
        }
    }};
}
pub(crate) use repeat;

/// How often, and how soon, something is tried again.
pub(crate) struct Tries<'a> {
    pub(crate) deadline: Instant,
    pause: Duration,
    counters: &'a Counters,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(pool: &Pool, counters: &'a Counters) -> Self {
        Self { deadline: pool.deadline(), pause: FIRST_PAUSE, counters }
    }

    /// Pauses; an error where trying again does not help, or not in time.
    pub(crate) async fn failed(&mut self, failure: Failure) -> Result<(), Error> {
        if matches!(failure, Failure::Conflict) {
            self.counters.retried();
        }
        if matches!(failure, Failure::Final(_)) || Instant::now() + self.pause > self.deadline {
            return Err(failure.into_error());
        }
        tokio::time::sleep(jittered(self.pause)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

pub(crate) fn count(counter: &AtomicU64, name: &'static str) {
    counter.fetch_add(1, Ordering::Relaxed);
    metrics::counter!(name).increment(1);
}

impl Shared {
    pub(crate) fn statements(&self) -> &'static Statements {
        self.options.engine.statements()
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.options.clock.now()
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        let item = repeat!(self, conn => {
            let statement = conn.prepared(self.statements().get).await?;
            let row = conn.client.query_opt(&statement, &[&bytes(key)]).await?;
            Ok(row.map(|row| rest(&row, 0, key.clone())).transpose())
        })?;
        // By the clock that every other statement is given, and as late as can be.
        Ok(item.filter(|item| !item.is_expired(self.now())))
    }

    pub(crate) async fn page(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
        lately: bool,
    ) -> Result<Page, Error> {
        let range = after.map_or_else(|| range.clone(), |at| range.after(at.key().as_str()));
        let now = Moment(self.now());
        repeat!(self, conn => {
            let mut page = PageBuilder::new(limit);
            let wanted = i64::try_from(page.wanted()).unwrap_or(i64::MAX);
            let (start, end) = bounds(&range);
            let statements = self.statements();
            let statement = match lately {
                true => match conn.prepared(statements.page_lately).await {
                    // There is nothing yet that is some seconds old: what is there now.
                    Err(error) if is_too_young(&error) => conn.prepared(statements.page).await,
                    found => found,
                },
                false => conn.prepared(statements.page).await,
            }?;
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&start, &end, &now, &wanted];
            let rows = conn.client.query_raw(&statement, params).await?;
            futures::pin_mut!(rows);
            while let Some(row) = rows.try_next().await? {
                // The row that shows that there are more is not looked at.
                if page.is_full() {
                    page.end_before_more();
                    break;
                }
                match item(&row, 0) {
                    Ok(item) => page.push(item),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(page.finish()))
        })
    }

    /// Forgets all but the last changes of PostgreSQL's log.
    pub(crate) async fn trim(&self) -> Result<(), Error> {
        let history = i64::try_from(self.options.history).unwrap_or(i64::MAX);
        repeat!(self, conn => {
            let statement = conn.prepared(log::TRIM).await?;
            conn.client.execute(&statement, &[&history]).await.map(Ok)
        })
        .map(drop)
    }

    /// Runs a write until it is known whether it happened.
    pub(crate) async fn write(&self, op: &Op) -> Result<(Outcome, Revision), Error> {
        let deadline = self.pool.deadline();
        let mut pause = FIRST_PAUSE;
        for _ in 0..MOST_TRIES {
            let revision = Uuid::fresh();
            let since = self.feed.mark();
            let conn = self.pool.get(deadline).await?;
            let sent = conn.bounded(op.send(&conn, self.statements(), revision, self.now())).await;
            let failure = match sent {
                Ok(Outcome::Rows(0)) if op.key().is_some() => {
                    drop(conn);
                    match self.refused(op).await? {
                        Some(error) => return Err(error),
                        None => continue,
                    }
                }
                Ok(outcome) => {
                    self.feed.written();
                    return Ok((outcome, revision.0));
                }
                Err(error) => error.judge(self.pool.dialer()),
            };
            match failure {
                Failure::Conflict => self.counters.retried(),
                Failure::Lost(error) => {
                    count(&self.counters.lost, "access_backend_sql_lost_connections_total");
                    let session = conn.session.clone();
                    drop(deadpool::managed::Object::take(conn));
                    let lost = Lost { op, revision, since, session: &session, error: &error };
                    if let Some(outcome) = self.resolve(&lost, deadline).await? {
                        count(&self.counters.resolved, "access_backend_sql_resolved_writes_total");
                        self.feed.written();
                        return Ok((outcome, revision.0));
                    }
                    if Instant::now() + pause > deadline {
                        return Err(unavailable(&format!(
                            "{error}: the connection was lost during a write, which did not happen; \
                             try again"
                        )));
                    }
                }
                Failure::Busy(error) if Instant::now() + pause > deadline => return Err(error),
                Failure::Busy(_) => {}
                Failure::Final(error) => return Err(error),
            }
            if Instant::now() + pause > deadline {
                break;
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(unavailable("the transaction met others again and again; try again"))
    }

    /// Why a write of one row wrote none. Asked afterwards, since revisions do not come back: what is found then has
    /// refused the write at that moment.
    async fn refused(&self, op: &Op) -> Result<Option<Error>, Error> {
        let Some(key) = op.key() else { return Ok(None) };
        let now = Moment(self.now());
        let found = repeat!(self, conn => {
            let statement = conn.prepared(self.statements().look).await?;
            let row = conn.client.query_opt(&statement, &[&bytes(key), &now]).await?;
            Ok(row.map(|row| column::<Uuid>(&row, 0)).transpose())
        })?;
        Ok(refusal(op, found.map(|revision| revision.0)))
    }
}

/// Whether table or database were not there yet at the moment that is asked for.
pub(crate) fn is_too_young(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| matches!(code.code(), "42P01" | "3D000"))
}
