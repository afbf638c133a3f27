//! Tables, and how they come from one version to the next.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::{errors, files};
use crate::Error;
use crate::hub::random_gap;

/// What leads from each version to the next. Append; what was released stays as it is.
///
/// `kv` keeps its rowid: a value of about a kibibyte, and up to a mebibyte, would otherwise lie inside the interior
/// nodes of the key's tree, and few keys would fit a node.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE kv(
        key BLOB NOT NULL UNIQUE,
        value BLOB NOT NULL,
        expires INTEGER,
        revision INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX kv_expires ON kv(expires) WHERE expires IS NOT NULL;
    CREATE TABLE kv_log(
        seq INTEGER PRIMARY KEY,
        key BLOB NOT NULL
    ) STRICT;
    CREATE TABLE events(
        id INTEGER PRIMARY KEY,
        writer TEXT NOT NULL,
        seq INTEGER NOT NULL,
        time INTEGER NOT NULL,
        name TEXT NOT NULL,
        user TEXT,
        json BLOB NOT NULL,
        UNIQUE(writer, seq)
    ) STRICT;
    CREATE INDEX events_time ON events(time, writer, seq);
    CREATE INDEX events_name ON events(name, time, writer, seq);
    CREATE INDEX events_user ON events(user, time, writer, seq) WHERE user IS NOT NULL;
    CREATE TABLE event_writers(
        writer TEXT NOT NULL PRIMARY KEY,
        last_seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE event_blocks(
        id INTEGER PRIMARY KEY,
        writer TEXT NOT NULL,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        first_time INTEGER NOT NULL,
        last_time INTEGER NOT NULL,
        count INTEGER NOT NULL,
        names TEXT NOT NULL,
        users TEXT NOT NULL,
        body BLOB NOT NULL,
        UNIQUE(writer, last_seq)
    ) STRICT;
    CREATE INDEX event_blocks_first ON event_blocks(first_time);
    CREATE INDEX event_blocks_last ON event_blocks(last_time);
",
];

/// A file of up to this size is checked as a whole each time that it is opened.
const ALWAYS_CHECKED_BYTES: u64 = 64 * 1024 * 1024;

/// How long to wait for a stranger who has the file open with some other tool.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes the tables in the empty file at `path`.
pub(super) fn create(path: &Path) -> Result<(), Error> {
    let sql = errors::sql(path);
    let mut connection = connect(path)?;
    let transaction = connection.transaction().map_err(&sql)?;
    transaction
        .execute_batch(
            "CREATE TABLE backend_version(
                id INTEGER PRIMARY KEY CHECK (id = 1),
                version INTEGER NOT NULL,
                log_floor INTEGER NOT NULL
            ) STRICT;",
        )
        .map_err(&sql)?;
    // Room below for sixteen bits of changes, so that the first gap is as wide as later ones.
    let floor = i64::try_from(random_gap() << 16).unwrap_or_default();
    transaction.execute("INSERT INTO backend_version VALUES (1, 0, ?1)", [floor]).map_err(&sql)?;
    transaction.commit().map_err(&sql)?;
    migrate(&mut connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(&sql)?;
    connection.close().map_err(|(_, error)| sql(error))
}

/// Opens the writer's connection on a file that exists, checked and brought to this version.
pub(super) fn open(path: &Path, checkpoint_pages: u32) -> Result<Connection, Error> {
    let sql = errors::sql(path);
    let unclean = files::log_len(path) > 0;
    let mut connection = connect(path)?;
    // A file that is refused is left as it was found: its log is evidence, and may be what saves it.
    let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keep_log, true).map_err(&sql)?;
    check_version(&connection, path)?;
    let small = std::fs::metadata(path).is_ok_and(|file| file.len() <= ALWAYS_CHECKED_BYTES);
    if unclean || small {
        let found: String =
            connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(&sql)?;
        if found != "ok" {
            return Err(Error::corrupt(path, found.to_lowercase().replace('\n', " ")));
        }
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(&sql)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(&sql)?;
    connection.pragma_update(None, "wal_autocheckpoint", checkpoint_pages).map_err(&sql)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024).map_err(&sql)?;
    // What was deleted may have been a secret.
    connection.pragma_update(None, "secure_delete", "FAST").map_err(&sql)?;
    migrate(&mut connection, path)?;
    connection.set_db_config(keep_log, false).map_err(&sql)?;
    Ok(connection)
}

/// A connection for reading the file, which the writer has open.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let connection = connect(path)?;
    // The writer folds the log into the file, and it may be of another process.
    let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keep_log, true).map_err(errors::sql(path))?;
    connection.pragma_update(None, "query_only", true).map_err(errors::sql(path))?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let sql = errors::sql(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(&sql)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(&sql)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "trusted_schema", false).map_err(&sql)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(&sql)?;
    Ok(connection)
}

fn check_version(connection: &Connection, path: &Path) -> Result<(), Error> {
    let sql = errors::sql(path);
    let ours: Option<i64> = connection
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'backend_version'", (), |row| {
            row.get(0)
        })
        .optional()
        .map_err(&sql)?;
    if ours.is_none() {
        return Err(Error::Foreign {
            path: path.to_owned(),
            detail: "it has no table backend_version".into(),
        });
    }
    let found = version(connection, path)?;
    let supported = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > supported {
        return Err(Error::NewerSchema { path: path.to_owned(), found, supported });
    }
    Ok(())
}

/// Whether the file is this program's and of this version, without changing anything.
pub(super) fn check_current(connection: &Connection, path: &Path) -> Result<(), Error> {
    check_version(connection, path)?;
    let found = version(connection, path)?;
    if usize::try_from(found) == Ok(MIGRATIONS.len()) {
        return Ok(());
    }
    Err(Error::unavailable(format!(
        "{} has schema version {found} of an earlier release: start that with this release once",
        path.display()
    )))
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let sql = errors::sql(path);
    // Also where there is nothing to do: whoever else is writing to the file shows here.
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&sql)?;
    let from = version(&transaction, path)?;
    let done = usize::try_from(from)
        .map_err(|_| Error::corrupt(path, format!("schema version {from}")))?;
    for step in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(step).map_err(&sql)?;
        transaction
            .execute("UPDATE backend_version SET version = version + 1", ())
            .map_err(&sql)?;
    }
    transaction.commit().map_err(&sql)
}

pub(super) fn version(connection: &Connection, path: &Path) -> Result<i64, Error> {
    connection
        .query_row("SELECT version FROM backend_version", (), |row| row.get(0))
        .map_err(errors::sql(path))
}
