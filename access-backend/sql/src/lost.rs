//! What became of a write whose answer was lost.
//!
//! Its session is ended first: until it is gone it could still commit, after somebody has looked in vain. From then on
//! PostgreSQL's change log has the revision of the write, or never will.
//!
//! CockroachDB keeps no log, but its feed brings every version of every row, and tells up to which moment nothing is
//! missing any more. What is asked there, in this order:
//!
//! 1. Does the row carry the revision of the write? Then it happened.
//! 2. Is the row still of the revision that the write demands? Then it did not: revisions do not come back.
//! 3. Once the feed has passed the end of the session: did it bring the revision? Then the write happened, whatever
//!    others have made of the row since. Otherwise a write that leaves a row did not.
//! 4. A write that only deletes leaves no revision. If the feed brought no delete of its keys, it did not happen, or
//!    there was nothing to delete, which is the same. If the feed brought one, that may be anybody's. To say that the
//!    row was deleted would be wrong where another one has deleted it, and been told so; to say that there was none,
//!    where nobody else has. This alone stays open, beside a feed that had to begin anew or does not come in time.
//!
//! That nothing of an ended session is still on its way between two nodes of CockroachDB is taken for granted: its
//! documentation neither says so nor the contrary. A write with a condition is safe either way, since its retry has the
//! same condition; one without could be done twice.

use std::time::Duration;

use access_backend::{Error, Key};
use tokio::time::Instant;

use crate::Engine;
use crate::conn::{Conn, Session};
use crate::errors::{Failure, unavailable};
use crate::feed::Mark;
use crate::feed::cockroachdb::{Hlc, Passed};
use crate::pool::jittered;
use crate::schema::rows;
use crate::statements::cockroachdb::feed;
use crate::store::{FIRST_PAUSE, LONGEST_PAUSE, Shared, count};
use crate::types::{Moment, Uuid};
use crate::write::{Op, Outcome, bytes};

/// More than the clocks of two nodes differ: the moment is told by one, and the write may have gone through another.
/// <https://www.cockroachlabs.com/docs/stable/cockroach-start#flags-max-offset>
const CLOCKS: Duration = Duration::from_secs(1);

/// A write that was not answered.
pub(crate) struct Lost<'a> {
    pub(crate) op: &'a Op,
    pub(crate) revision: Uuid,
    /// From before it was sent.
    pub(crate) since: Mark,
    pub(crate) session: &'a Session,
    pub(crate) error: &'a Error,
}

/// What the database says of it.
enum Told {
    Written(Outcome),
    NotWritten,
    StillThere,
    /// Nothing yet; the feed tells once it has passed this moment.
    AskFeed(Hlc),
    Unknown,
}

impl Shared {
    /// Finds out whether a write happened of which the answer was lost: `None` if it did not and never will.
    pub(crate) async fn resolve(
        &self,
        lost: &Lost<'_>,
        deadline: Instant,
    ) -> Result<Option<Outcome>, Error> {
        // Long enough to see a database come back that was restarted in the middle, and a feed that has to begin again.
        let least = match self.options.engine {
            Engine::Postgres => self.options.patience / 2,
            Engine::CockroachDb => self.options.feed_patience.max(self.options.patience / 2),
        };
        let deadline = deadline.max(Instant::now() + least);
        let mut pause = FIRST_PAUSE;
        let mut awaited = None;
        loop {
            let told = match awaited {
                Some(moment) => Ok(self.heard(lost, moment)),
                None => {
                    let conn = self.pool.get(deadline).await?;
                    let told = conn.bounded(self.ask(&conn, lost)).await;
                    told.map_err(|error| error.judge(self.pool.dialer()))
                }
            };
            match told {
                Ok(Told::Written(outcome)) => return Ok(Some(outcome)),
                Ok(Told::NotWritten) => return Ok(None),
                Ok(Told::AskFeed(moment)) => awaited = Some(moment),
                Ok(Told::StillThere) => {}
                Ok(Told::Unknown) => return Err(self.unresolved(lost)),
                Err(Failure::Final(error)) => return Err(error),
                Err(_) => {}
            }
            if Instant::now() + pause > deadline {
                return Err(self.unresolved(lost));
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn unresolved(&self, lost: &Lost<'_>) -> Error {
        count(&self.counters.unresolved, "access_backend_sql_unresolved_writes_total");
        unavailable(&format!(
            "{}: the connection was lost during a write; read again to see whether it happened",
            lost.error
        ))
    }

    async fn ask(&self, conn: &Conn, lost: &Lost<'_>) -> Result<Told, tokio_postgres::Error> {
        self.end(conn, lost.session).await?;
        if !self.gone(conn, lost.session).await? {
            return Ok(Told::StillThere);
        }
        match self.options.engine {
            Engine::Postgres => self.logged(conn, lost).await,
            Engine::CockroachDb => self.found(conn, lost).await,
        }
    }

    /// Asks the server to end a session.
    async fn end(&self, conn: &Conn, session: &Session) -> Result<(), tokio_postgres::Error> {
        let text = self.statements().end_session;
        if self.options.engine == Engine::CockroachDb {
            return match conn.client.batch_execute(&named(text, session)).await {
                // Its node cannot be reached, perhaps: whether the session is there is asked next.
                Err(error) if error.as_db_error().is_some() => Ok(()),
                done => done,
            };
        }
        let statement = conn.prepared(text).await?;
        conn.client.query(&statement, &[&session.id, &session.started]).await.map(drop)
    }

    /// Whether a session has ended.
    async fn gone(&self, conn: &Conn, session: &Session) -> Result<bool, tokio_postgres::Error> {
        let text = self.statements().session_there;
        if self.options.engine == Engine::CockroachDb {
            let there = conn.client.simple_query(&named(text, session)).await?;
            return Ok(rows(&there).is_empty());
        }
        let statement = conn.prepared(text).await?;
        let there = conn.client.query(&statement, &[&session.id, &session.started]).await?;
        Ok(there.is_empty())
    }

    /// What PostgreSQL's log says.
    async fn logged(&self, conn: &Conn, lost: &Lost<'_>) -> Result<Told, tokio_postgres::Error> {
        let statement = conn.prepared(self.statements().written).await?;
        let (now, since) = (Moment(self.now()), lost.since.xid);
        let row = conn.client.query_one(&statement, &[&lost.revision, &since, &now]).await?;
        let (all, live, floor): (i64, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let number = |count| u64::try_from(count).unwrap_or_default();
        Ok(match lost.op {
            _ if all == 0 && floor > since => Told::Unknown,
            _ if all == 0 => Told::NotWritten,
            Op::DeleteRange(_) => Told::Written(Outcome::Cleared(number(live))),
            _ => Told::Written(Outcome::Rows(number(all))),
        })
    }

    /// What CockroachDB's rows say, and otherwise up to which moment the feed has to be heard.
    async fn found(&self, conn: &Conn, lost: &Lost<'_>) -> Result<Told, tokio_postgres::Error> {
        let at = async |key: &Key| {
            let statement = conn.prepared(self.statements().written).await?;
            let row = conn.client.query_opt(&statement, &[&bytes(key)]).await?;
            row.map(|row| row.try_get::<_, Uuid>(0)).transpose()
        };
        if matches!(lost.op, Op::Sweep { .. }) {
            // To do it again is to do what is left of it.
            return Ok(Told::NotWritten);
        }
        if let Some(key) = lost.op.marked_key()
            && at(key).await? == Some(lost.revision)
        {
            return Ok(Told::Written(Outcome::Rows(1)));
        }
        if let Some((key, expected)) = lost.op.replaced()
            && at(key).await? == Some(Uuid(expected))
        {
            return Ok(Told::NotWritten);
        }
        let answers = conn.client.simple_query(feed::NOW).await?;
        let text = rows(&answers).concat().concat();
        Ok(Hlc::parse(&text).map_or(Told::Unknown, |now| Told::AskFeed(now.plus(CLOCKS))))
    }

    /// What CockroachDB's feed has brought.
    fn heard(&self, lost: &Lost<'_>, until: Hlc) -> Told {
        let changes = match self.feed.log().passed(lost.since.at, until) {
            Passed::NotYet => return Told::AskFeed(until),
            Passed::Forgotten => return Told::Unknown,
            Passed::Changes(changes) => changes,
        };
        if lost.op.marked_key().is_some() {
            let is_ours = |change: &access_backend::engine::Change| {
                change.item.as_ref().is_some_and(|item| item.revision == lost.revision.0)
            };
            return match changes.iter().any(|change| is_ours(change)) {
                true => Told::Written(Outcome::Rows(1)),
                false => Told::NotWritten,
            };
        }
        match changes.iter().any(|change| change.item.is_none() && lost.op.deletes(&change.key)) {
            true => Told::Unknown,
            false => Told::NotWritten,
        }
    }
}

/// A statement about a session of CockroachDB, whose last sixteen digits are the node that it is on.
fn named(text: &str, session: &Session) -> String {
    let id: String = session.id.chars().filter(char::is_ascii_hexdigit).collect();
    let node = id.get(id.len().saturating_sub(16)..).unwrap_or_default();
    let node = i64::from_str_radix(node, 16).unwrap_or_default();
    text.replace("{session}", &id).replace("{node}", &node.to_string())
}
