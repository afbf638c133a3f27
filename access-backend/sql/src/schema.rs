//! Tables, and how they come from one version to the next.
//!
//! Several processes may start on an empty database at once: on PostgreSQL the first holds a lock and the others wait
//! for it; on CockroachDB each statement does nothing where another process was faster.

use access_backend::Error;
use tokio::time::Instant;
use tokio_postgres::SimpleQueryMessage;

use crate::errors::Failure;
use crate::pool::{Pool, jittered};
use crate::{Engine, SqlOptions, retention};

const SETTING: &str = "storage.conn_string";

/// What is there, and of which version.
pub(crate) const FOUND: &str = "SELECT table_name, column_name, data_type FROM information_schema.columns \
    WHERE table_schema = current_schema() AND table_name IN \
    ('backend_version', 'kv', 'kv_log', 'events', 'event_blocks', 'event_writers')";
pub(crate) const VERSION: &str = "SELECT version FROM backend_version";
/// After a step.
pub(crate) const DONE: &str =
    "UPDATE backend_version SET version = {version} WHERE version < {version}";

/// The columns that statements rely on, and the words of both databases for their types.
const COLUMNS: &[(&str, &str, &[&str])] = &[
    ("kv", "key", &["bytea"]),
    ("kv", "value", &["bytea"]),
    ("kv", "expires", &["timestamp with time zone"]),
    ("kv", "revision", &["uuid"]),
    ("events", "writer", &["bytea"]),
    ("events", "seq", &["bigint"]),
    ("events", "time", &["bigint"]),
    ("events", "name", &["text"]),
    ("events", "user", &["text"]),
    ("events", "json", &["bytea"]),
    ("event_blocks", "writer", &["bytea"]),
    ("event_blocks", "first_seq", &["bigint"]),
    ("event_blocks", "last_seq", &["bigint"]),
    ("event_blocks", "first_time", &["bigint"]),
    ("event_blocks", "last_time", &["bigint"]),
    ("event_blocks", "count", &["bigint"]),
    ("event_blocks", "names", &["text"]),
    ("event_blocks", "users", &["text"]),
    ("event_blocks", "body", &["bytea"]),
    ("event_writers", "writer", &["bytea"]),
    ("event_writers", "last_seq", &["bigint"]),
];

/// Those that PostgreSQL has besides.
const LOG_COLUMNS: &[(&str, &str, &[&str])] = &[
    ("kv_log", "xid", &["bigint"]),
    ("kv_log", "ord", &["integer"]),
    ("kv_log", "key", &["bytea"]),
    ("kv_log", "value", &["bytea"]),
    ("kv_log", "expires", &["timestamp with time zone"]),
    ("kv_log", "revision", &["uuid"]),
];

impl Engine {
    /// The first statements of a database that is empty.
    pub(crate) const fn first(self) -> [&'static str; 2] {
        match self {
            Self::Postgres => [
                "CREATE TABLE IF NOT EXISTS backend_version (id INTEGER PRIMARY KEY CHECK (id = 1), \
                 version INTEGER NOT NULL, store UUID NOT NULL, log_floor BIGINT NOT NULL)",
                "INSERT INTO backend_version (id, version, store, log_floor) VALUES \
                 (1, 0, gen_random_uuid(), pg_current_xact_id()::text::bigint) \
                 ON CONFLICT (id) DO NOTHING",
            ],
            Self::CockroachDb => [
                "CREATE TABLE IF NOT EXISTS backend_version (id INT8 PRIMARY KEY CHECK (id = 1), \
                 version INT8 NOT NULL, store UUID NOT NULL)",
                "INSERT INTO backend_version (id, version, store) VALUES \
                 (1, 0, gen_random_uuid()) ON CONFLICT (id) DO NOTHING",
            ],
        }
    }
}

/// Makes sure that the tables are there, of this version, and as they should be.
pub(crate) async fn prepare(pool: &Pool, options: &SqlOptions) -> Result<(), Error> {
    let deadline = Instant::now() + options.patience * 3;
    let mut pause = std::time::Duration::from_millis(10);
    loop {
        let failure = match attempt(pool, options, deadline).await {
            Ok(()) => return Ok(()),
            Err(Failure::Final(error)) => return Err(error),
            Err(failure) => failure,
        };
        if Instant::now() + pause > deadline {
            return Err(failure.into_error());
        }
        // Another process was at it, or the connection broke: what is done is done, and the rest goes on.
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(std::time::Duration::from_secs(1));
    }
}

async fn attempt(pool: &Pool, options: &SqlOptions, deadline: Instant) -> Result<(), Failure> {
    let conn = pool.get(deadline).await.map_err(Failure::Final)?;
    let statements = options.engine.statements();
    let supported = i64::try_from(statements.migrations.len()).unwrap_or(i64::MAX);
    let run =
        async |text: &str| conn.client.simple_query(text).await.map_err(|error| pool.judge(&error));
    let found = rows(&run(FOUND).await?);
    let has = |table: &str| found.iter().any(|row| row.first().is_some_and(|name| name == table));
    if !has("backend_version") && has("kv") {
        let reason = format!(
            "{} has a table kv of another program; name a database of its own for this store",
            options.conn
        );
        return Err(Failure::Final(Error::Setting { setting: SETTING, reason }));
    }
    let version = match has("backend_version") {
        true => version(&run(VERSION).await?),
        false => None,
    };
    if let Some(newer) = version.filter(|version| *version > supported) {
        let path = options.conn.to_string().into();
        return Err(Failure::Final(Error::NewerSchema { path, found: newer, supported }));
    }
    if version != Some(supported) {
        // An open transaction ends with the connection, should this fail in its middle.
        conn.set_open(true);
        if !statements.migrate_begin.is_empty() {
            run(statements.migrate_begin).await?;
        }
        for text in options.engine.first() {
            run(text).await?;
        }
        let done = self::version(&run(VERSION).await?).unwrap_or(0);
        for (at, step) in (1..=supported).zip(statements.migrations) {
            if at <= done {
                continue;
            }
            let step = step.replace("{ttl_job_cron}", &options.ttl_job_cron.replace('\'', "''"));
            for text in step.split(';').map(str::trim).filter(|text| !text.is_empty()) {
                run(text).await?;
            }
            run(&DONE.replace("{version}", &at.to_string())).await?;
        }
        if !statements.migrate_end.is_empty() {
            run(statements.migrate_end).await?;
        }
        conn.set_open(false);
    }
    if options.engine == Engine::CockroachDb {
        retention::apply(options, &conn, pool).await?;
    }
    let found = rows(&run(FOUND).await?);
    let log = if options.engine == Engine::Postgres { LOG_COLUMNS } else { &[] };
    for (table, column, kinds) in COLUMNS.iter().chain(log) {
        let kind = found.iter().find_map(|row| match row.as_slice() {
            [t, c, kind] if t == table && c == column => Some(kind.to_lowercase()),
            _ => None,
        });
        let what = match kind {
            Some(kind) if kinds.contains(&kind.as_str()) => continue,
            Some(kind) => {
                format!("column {column} of {table} is {kind}, not {}", kinds.join(" or "))
            }
            None => format!("{table} has no column {column}"),
        };
        return Err(Failure::Final(crate::types::altered(&what)));
    }
    Ok(())
}

pub(crate) fn rows(answers: &[SimpleQueryMessage]) -> Vec<Vec<String>> {
    let texts = answers.iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|at| row.try_get(at).ok().flatten().unwrap_or_default().to_owned())
                .collect(),
        ),
        _ => None,
    });
    texts.collect()
}

pub(crate) fn version(answers: &[SimpleQueryMessage]) -> Option<i64> {
    rows(answers).first()?.first()?.parse().ok()
}
