//! How a store behaves.

use std::sync::Arc;
use std::time::Duration;

use access_backend::{Clock, Error, SystemClock};

use crate::{ConnString, Engine};

/// How a [`Sql`](crate::Sql) store behaves.
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
    /// How far the clock may be from the database's when the store is opened; `None` does not look.
    pub max_clock_skew: Option<Duration>,
    /// How often expired rows are deleted and the change log is trimmed, by one process at a time; `None` leaves it to
    /// calls of [`sweep`](access_backend::Backend::sweep). CockroachDB deletes expired rows by itself.
    pub sweep_every: Option<Duration>,
    /// When CockroachDB deletes expired rows, as in crontab. It is set when the tables are made.
    pub ttl_job_cron: String,
    /// How long events are kept, by their own time; `None` keeps them. PostgreSQL's are deleted by the sweep, in small
    /// batches; on CockroachDB it is the table's own row-level TTL, in whole days.
    pub event_ttl: Option<Duration>,
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
    /// The machine's clock, which may be 5 s off; a sweep every 5 s, CockroachDB's own every 20 minutes; 4,096 changes
    /// for each watch and 16,384 to resume from; a look at the log a second; 10 s of patience with a change feed and
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
            sweep_every: Some(Duration::from_secs(5)),
            ttl_job_cron: "*/20 * * * *".into(),
            event_ttl: None,
            watch_buffer: 4096,
            history: 16 * 1024,
            poll_every: Duration::from_secs(1),
            feed_patience: Duration::from_secs(10),
            patience: Duration::from_secs(10),
        })
    }
}
