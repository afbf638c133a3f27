//! How a store behaves.

use std::sync::Arc;
use std::time::Duration;

use access_backend::{Clock, Error, SystemClock};

use crate::{ConnString, Engine, Retention};

/// How a [`Sql`](crate::Sql) store behaves.
///
/// Nothing is deleted by itself but what CockroachDB's tables do: somebody calls
/// [`sweep`](access_backend::Backend::sweep) now and then, best one process at a time, under a
/// [`Lease`](access_backend::Lease).
#[derive(Clone, Debug)]
pub struct SqlOptions {
    /// Which database it is; one that turns out to be the other is refused.
    pub engine: Engine,
    /// Where it is and how to get there.
    pub conn: ConnString,
    /// The same for the change feed, where it goes another way.
    pub feed_conn: Option<ConnString>,
    /// What decides about expiry. It has to agree with those of other processes on the same database.
    pub clock: Arc<dyn Clock>,
    /// How far the clock may be from the database's when the store is opened, and for
    /// [`health`](access_backend::Backend::health) to find no fault; `None` is any distance.
    pub max_clock_skew: Option<Duration>,
    /// When CockroachDB deletes expired rows and events, as in crontab. The tables are set to it, unless their retention
    /// stays as it is.
    pub ttl_job_cron: String,
    /// How long CockroachDB keeps events: the tables are set to it. PostgreSQL keeps them until they are deleted by
    /// [`delete_before`](access_backend::EventStore::delete_before), and tells what is said here.
    pub event_retention: Retention,
    /// How many changes a watch may be behind before it is reset.
    pub watch_buffer: usize,
    /// How many changes, about, are kept for watches that resume.
    pub history: usize,
    /// How often the change log is looked at when no notification came.
    pub poll_every: Duration,
    /// How long a change feed of CockroachDB may be silent before it is begun again.
    pub feed_patience: Duration,
    /// How long an operation waits for a connection and for a database that is away.
    pub patience: Duration,
}

impl SqlOptions {
    /// The machine's clock, which may be 5 s off; events kept as they are, CockroachDB's own sweep every 20 minutes; 4,096
    /// changes for each watch and 16,384 to resume from; a look at the log a second; 10 s of patience with a change feed and
    /// with a database that is away.
    ///
    /// # Errors
    /// [`Error::Setting`] naming what is wrong in `conn_string`.
    pub fn new(engine: Engine, conn_string: &str) -> Result<Self, Error> {
        Ok(Self {
            engine,
            conn: conn_string.parse()?,
            feed_conn: None,
            clock: Arc::new(SystemClock),
            max_clock_skew: Some(Duration::from_secs(5)),
            ttl_job_cron: "*/20 * * * *".into(),
            event_retention: Retention::AsItIs,
            watch_buffer: 4096,
            history: 16 * 1024,
            poll_every: Duration::from_secs(1),
            feed_patience: Duration::from_secs(10),
            patience: Duration::from_secs(10),
        })
    }
}
