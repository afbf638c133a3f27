//! Every statement that is sent, apart from those of searches, which are put together in `events`.
//!
//! What is written of a row goes into one statement wherever the database allows it, so that a write is one round trip
//! and one transaction. `tests/golden` has them all as they stand here.

pub(crate) mod cockroachdb;
pub(crate) mod postgres;

pub(crate) use self::cockroachdb::COCKROACHDB;
pub(crate) use self::postgres::POSTGRES;

/// The statements of one dialect. Parameters are described where they are bound, in `write` and `read`.
#[derive(Debug)]
pub(crate) struct Statements {
    /// Of each new connection; the last row tells which session it is.
    pub(crate) session: &'static str,
    /// What makes the tables, one step for each version of the schema.
    pub(crate) migrations: &'static [&'static str],
    /// Before the migrations, so that they run once.
    pub(crate) migrate_begin: &'static str,
    pub(crate) migrate_end: &'static str,

    pub(crate) get: &'static str,
    pub(crate) page: &'static str,
    /// A page that may be some seconds old.
    pub(crate) page_lately: &'static str,
    /// The revision of a live row.
    pub(crate) look: &'static str,
    /// A transaction that reads the same state throughout.
    pub(crate) begin_read: &'static str,

    pub(crate) create: &'static str,
    pub(crate) put: &'static str,
    pub(crate) update: &'static str,
    pub(crate) delete: &'static str,
    pub(crate) delete_if: &'static str,
    pub(crate) keep_alive: &'static str,
    pub(crate) keep_alive_if: &'static str,
    pub(crate) delete_range: &'static str,
    /// Before [`Statements::delete_range`]: keeps other writers away from the range.
    pub(crate) delete_range_lock: Option<&'static str>,
    pub(crate) sweep: &'static str,

    /// The first condition that does not hold.
    pub(crate) batch_check: &'static str,
    /// Keeps keys that are not there from coming into being.
    pub(crate) batch_hold: Option<&'static str>,
    /// Conditions and writes in one.
    pub(crate) batch: Option<&'static str>,
    pub(crate) batch_put: &'static str,
    pub(crate) batch_delete: &'static str,

    /// Ends a session of which the connection was lost.
    pub(crate) end_session: &'static str,
    /// Whether that session is still there.
    pub(crate) session_there: &'static str,
    /// Whether a write is there, by its revision.
    pub(crate) written: &'static str,

    /// As rows, those that are not there yet.
    pub(crate) append_events: &'static str,
    /// As blocks, all of them or none where one may be there.
    pub(crate) append_blocks: &'static str,
    pub(crate) last_seq: &'static str,
    pub(crate) delete_events: &'static str,
    pub(crate) delete_blocks: &'static str,
}

/// What an event's search reads.
pub(crate) const SEARCH: &str = "SELECT writer, seq, time, name, \"user\", json FROM events";

/// What it reads of blocks: those first that begin first in its order, so many at a time.
pub(crate) const SEARCH_BLOCKS: &str = "SELECT writer, last_seq, body";

/// What begins and ends a transaction of several statements.
pub(crate) mod tx {
    pub(crate) const BEGIN: &str = "BEGIN";
    pub(crate) const COMMIT: &str = "COMMIT";
    pub(crate) const ROLLBACK: &str = "ROLLBACK";
}

/// What is asked beside rows and events.
pub(crate) mod ask {
    pub(crate) const NOTHING: &str = "SELECT 1";
    pub(crate) const CLOCK: &str = "SELECT extract(epoch FROM clock_timestamp())::float8";
    pub(crate) const ROWS: &str = "SELECT count(*) FROM kv";
}

#[cfg(test)]
mod tests;
