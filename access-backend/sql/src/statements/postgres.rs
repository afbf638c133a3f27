//! PostgreSQL's.
//!
//! Sessions run at REPEATABLE READ. There, of two transactions that write one row, the later one has begun after the
//! earlier one was committed, or is refused with 40001; since it then has the higher number as well, the numbers of
//! transactions order the writes of each key, and no change that was acknowledged comes after one that began later.
//! What a snapshot alone would let through is held by locks: a row that a batch looks at is locked (`locked`), one
//! that it also writes too (`own`: to INSERT, a row that was deleted meanwhile is no conflict), a key whose absence
//! counts gets a row for the time of the transaction (`batch_hold`), and a range that is deleted is kept from others
//! (`delete_range_lock`). Together that is stricter than SERIALIZABLE, which may put a transaction
//! before one that was acknowledged before it began.

use super::Statements;

pub(crate) const POSTGRES: Statements = Statements {
    session: "SET default_transaction_isolation = 'repeatable read'; \
        SET statement_timeout = '30s'; \
        SET lock_timeout = '10s'; \
        SET idle_in_transaction_session_timeout = '60s'; \
        SET client_min_messages = 'warning'; \
        SELECT set_config('synchronous_commit', 'on', false) \
        WHERE current_setting('synchronous_commit') = 'off'; \
        SELECT pg_backend_pid()::text, \
        (SELECT extract(epoch FROM backend_start)::text FROM pg_stat_activity \
         WHERE pid = pg_backend_pid()), \
        pg_is_in_recovery()::text",
    migrate_begin: "BEGIN ISOLATION LEVEL READ COMMITTED; \
        SELECT pg_advisory_xact_lock(7020668219486433025)",
    migrate_end: "COMMIT",
    migrations: &["
CREATE TABLE IF NOT EXISTS kv (
    key BYTEA PRIMARY KEY,
    value BYTEA NOT NULL,
    expires TIMESTAMPTZ,
    revision UUID NOT NULL
);
CREATE INDEX IF NOT EXISTS kv_expires ON kv (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS kv_log (
    xid BIGINT NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    ord INTEGER NOT NULL,
    key BYTEA NOT NULL,
    value BYTEA,
    expires TIMESTAMPTZ,
    revision UUID NOT NULL,
    PRIMARY KEY (xid, ord)
);
CREATE TABLE IF NOT EXISTS events (
    writer BYTEA NOT NULL,
    seq BIGINT NOT NULL,
    time BIGINT NOT NULL,
    name TEXT NOT NULL,
    \"user\" TEXT,
    json BYTEA NOT NULL,
    PRIMARY KEY (writer, seq)
);
CREATE INDEX IF NOT EXISTS events_time ON events (time, writer, seq);
CREATE INDEX IF NOT EXISTS events_name ON events (name, time, writer, seq);
CREATE INDEX IF NOT EXISTS events_user ON events (\"user\", time, writer, seq) WHERE \"user\" IS NOT NULL;
CREATE TABLE IF NOT EXISTS event_writers (
    writer BYTEA PRIMARY KEY,
    last_seq BIGINT NOT NULL
);", "
CREATE TABLE IF NOT EXISTS event_blocks (
    writer BYTEA NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    first_time BIGINT NOT NULL,
    last_time BIGINT NOT NULL,
    count BIGINT NOT NULL,
    names TEXT NOT NULL,
    users TEXT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (writer, last_seq)
);
CREATE INDEX IF NOT EXISTS event_blocks_first ON event_blocks (first_time, writer, last_seq);
CREATE INDEX IF NOT EXISTS event_blocks_last ON event_blocks (last_time, writer, last_seq);"],

    get: "SELECT value, expires, revision FROM kv WHERE key = $1",
    page: "SELECT key, value, expires, revision FROM kv \
        WHERE key >= $1 AND key < $2 AND (expires IS NULL OR expires > $3) ORDER BY key LIMIT $4",
    page_lately: "SELECT key, value, expires, revision FROM kv \
        WHERE key >= $1 AND key < $2 AND (expires IS NULL OR expires > $3) ORDER BY key LIMIT $4",
    look: "SELECT revision FROM kv WHERE key = $1 AND (expires IS NULL OR expires > $2)",
    begin_read: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",

    create: "WITH w AS (INSERT INTO kv (key, value, expires, revision) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires, \
        revision = excluded.revision WHERE kv.expires <= $5 RETURNING key, value, expires, revision) \
        INSERT INTO kv_log (ord, key, value, expires, revision) \
        SELECT 1, key, value, expires, revision FROM w",
    put: "WITH w AS (INSERT INTO kv (key, value, expires, revision) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires, \
        revision = excluded.revision) \
        INSERT INTO kv_log (ord, key, value, expires, revision) VALUES (1, $1, $2, $3, $4)",
    update: "WITH w AS (UPDATE kv SET value = $2, expires = $3, revision = $4 \
        WHERE key = $1 AND revision = $6 AND (expires IS NULL OR expires > $5) \
        RETURNING key, value, expires, revision) \
        INSERT INTO kv_log (ord, key, value, expires, revision) \
        SELECT 1, key, value, expires, revision FROM w",
    delete: "WITH w AS (DELETE FROM kv \
        WHERE key = $1 AND (expires IS NULL OR expires > $3) RETURNING key) \
        INSERT INTO kv_log (ord, key, revision) SELECT 1, key, $2::uuid FROM w",
    delete_if: "WITH w AS (DELETE FROM kv \
        WHERE key = $1 AND revision = $4 AND (expires IS NULL OR expires > $3) RETURNING key) \
        INSERT INTO kv_log (ord, key, revision) SELECT 1, key, $2::uuid FROM w",
    keep_alive: "WITH w AS (UPDATE kv SET expires = $2, revision = $3 \
        WHERE key = $1 AND (expires IS NULL OR expires > $4) \
        RETURNING key, value, expires, revision) \
        INSERT INTO kv_log (ord, key, value, expires, revision) \
        SELECT 1, key, value, expires, revision FROM w",
    keep_alive_if: "WITH w AS (UPDATE kv SET expires = $2, revision = $3 \
        WHERE key = $1 AND revision = $5 AND (expires IS NULL OR expires > $4) \
        RETURNING key, value, expires, revision) \
        INSERT INTO kv_log (ord, key, value, expires, revision) \
        SELECT 1, key, value, expires, revision FROM w",
    delete_range_lock: Some("LOCK TABLE kv IN SHARE ROW EXCLUSIVE MODE"),
    delete_range: "WITH w AS (DELETE FROM kv WHERE key >= $1 AND key < $2 RETURNING key, expires), \
        l AS (INSERT INTO kv_log (ord, key, expires, revision) \
        SELECT row_number() OVER (ORDER BY key), key, expires, $4::uuid FROM w) \
        SELECT count(*) FROM w WHERE expires IS NULL OR expires > $3",
    sweep: "WITH gone AS (SELECT key FROM kv WHERE expires <= $1 ORDER BY expires, key LIMIT $2 \
        FOR UPDATE SKIP LOCKED), \
        w AS (DELETE FROM kv USING gone WHERE kv.key = gone.key RETURNING kv.key) \
        INSERT INTO kv_log (ord, key, revision) \
        SELECT row_number() OVER (ORDER BY key), key, $3::uuid FROM w",

    batch_check: "",
    batch_hold: Some(
        "INSERT INTO kv (key, value, expires, revision) \
        SELECT k, ''::bytea, '-infinity'::timestamptz, $2::uuid FROM unnest($1::bytea[]) AS n (k) \
        ORDER BY k ON CONFLICT (key) DO NOTHING",
    ),
    batch: Some(
        "WITH c AS (SELECT k, want, rev, i FROM \
        unnest($1::bytea[], $2::int2[], $3::uuid[]) WITH ORDINALITY AS c (k, want, rev, i)), \
        locked AS MATERIALIZED (SELECT key FROM kv WHERE key = ANY ($4::bytea[]) \
        ORDER BY key FOR SHARE), \
        own AS MATERIALIZED (SELECT key FROM kv WHERE key = ANY ($14::bytea[]) \
        ORDER BY key FOR UPDATE), \
        live AS (SELECT key, revision FROM kv \
        WHERE key = ANY ($1) AND (expires IS NULL OR expires > $5)), \
        failed AS MATERIALIZED (SELECT min(c.i) AS i FROM c LEFT JOIN live ON live.key = c.k \
        WHERE (SELECT count(*) FROM locked) + (SELECT count(*) FROM own) >= 0 AND NOT CASE c.want WHEN 0 THEN live.key IS NULL \
        WHEN 1 THEN live.key IS NOT NULL ELSE coalesce(live.revision = c.rev, false) END), \
        p AS (INSERT INTO kv (key, value, expires, revision) \
        SELECT n.k, n.v, n.e, $6::uuid FROM failed, \
        unnest($7::bytea[], $8::bytea[], $9::timestamptz[]) AS n (k, v, e) \
        WHERE failed.i IS NULL ORDER BY n.k \
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires, \
        revision = excluded.revision), \
        d AS (DELETE FROM kv USING failed \
        WHERE (failed.i IS NULL AND key = ANY ($11::bytea[])) \
        OR (kv.revision = $6 AND key = ANY ($13::bytea[])) RETURNING kv.key, kv.revision), \
        l AS (INSERT INTO kv_log (ord, key, value, expires, revision) \
        SELECT n.o, n.k, n.v, n.e, $6 FROM failed, \
        unnest($7::bytea[], $8::bytea[], $9::timestamptz[], $10::int4[]) AS n (k, v, e, o) \
        WHERE failed.i IS NULL \
        UNION ALL SELECT n.o, d.key, NULL, NULL, $6 FROM d \
        JOIN unnest($11::bytea[], $12::int4[]) AS n (k, o) ON n.k = d.key \
        WHERE d.revision <> $6) \
        SELECT i FROM failed",
    ),
    batch_put: "",
    batch_delete: "",

    end_session: "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity \
        WHERE pid = $1::text::int AND extract(epoch FROM backend_start)::text = $2",
    session_there: "SELECT 1 FROM pg_stat_activity \
        WHERE pid = $1::text::int AND extract(epoch FROM backend_start)::text = $2",
    written: "SELECT count(*), count(*) FILTER (WHERE expires IS NULL OR expires > $3), \
        (SELECT log_floor FROM backend_version) FROM kv_log WHERE revision = $1 AND xid >= $2",

    append_events: "WITH e AS (INSERT INTO events (writer, seq, time, name, \"user\", json) \
        SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], \
        $6::bytea[]) AS n (w, s, t, n, u, j) \
        WHERE coalesce((SELECT b.first_seq > n.s FROM event_blocks AS b \
        WHERE b.writer = n.w AND b.last_seq >= n.s ORDER BY b.last_seq LIMIT 1), true) ORDER BY w, s \
        ON CONFLICT (writer, seq) DO NOTHING RETURNING writer, seq), \
        w AS (INSERT INTO event_writers (writer, last_seq) \
        SELECT writer, max(seq) FROM e GROUP BY writer ORDER BY writer \
        ON CONFLICT (writer) DO UPDATE \
        SET last_seq = greatest(event_writers.last_seq, excluded.last_seq)) \
        SELECT count(*) FROM e",
    append_blocks: "WITH w AS (INSERT INTO event_writers (writer, last_seq) VALUES ($1, $2) \
        ON CONFLICT (writer) DO UPDATE SET last_seq = excluded.last_seq \
        WHERE event_writers.last_seq < $3 RETURNING writer), \
        b AS (INSERT INTO event_blocks \
        (writer, first_seq, last_seq, first_time, last_time, count, names, users, body) \
        SELECT w.writer, n.a, n.b, n.c, n.d, n.e, n.f, n.g, n.h FROM w, unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], \
        $9::text[], $10::text[], $11::bytea[]) \
        AS n (a, b, c, d, e, f, g, h) RETURNING 1) \
        SELECT count(*) FROM b",
    last_seq: "SELECT last_seq FROM event_writers WHERE writer = $1",
    delete_events: "DELETE FROM events WHERE (writer, seq) IN \
        (SELECT writer, seq FROM events WHERE time < $1 ORDER BY time, writer, seq LIMIT $2)",
    delete_blocks: "WITH d AS (DELETE FROM event_blocks WHERE (writer, last_seq) IN \
        (SELECT writer, last_seq FROM event_blocks WHERE last_time < $1 \
        ORDER BY last_time LIMIT $2) RETURNING count) \
        SELECT coalesce(sum(count), 0)::bigint FROM d",
};

/// What only this dialect has: the change log.
pub(crate) mod log {
    /// Which transactions are seen, what the log still has, whose it is, the last change that nothing can come before,
    /// and the last one at all.
    pub(crate) const STATE: &str = "SELECT pg_current_snapshot()::text, v.log_floor, \
        v.store::text || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), l.xid, l.ord, \
        (SELECT max(xid) FROM kv_log) FROM backend_version v LEFT JOIN LATERAL \
        (SELECT xid, ord FROM kv_log \
        WHERE xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint \
        ORDER BY xid DESC, ord DESC LIMIT 1) l ON true";
    /// The changes after one of them, up to where no transaction can still put one in between; a row of the state alone
    /// where there is none.
    pub(crate) const POLL: &str = "WITH s AS MATERIALIZED (SELECT \
        CASE WHEN $3::bigint > 0 THEN $3 \
        ELSE pg_snapshot_xmin(pg_current_snapshot())::text::bigint END AS horizon, \
        log_floor FROM backend_version), \
        b AS MATERIALIZED (SELECT EXISTS \
        (SELECT 1 FROM kv_log WHERE xid >= (SELECT horizon FROM s)) AS beyond) \
        SELECT l.key, l.value, l.expires, l.revision, l.xid, l.ord, s.log_floor, \
        b.beyond FROM s CROSS JOIN b LEFT JOIN LATERAL (SELECT * FROM kv_log \
        WHERE (xid, ord) > ($1, $2) AND xid < s.horizon ORDER BY xid, ord LIMIT 10000) l ON true";
    /// The last change of each key after one of them.
    pub(crate) const SINCE: &str = "SELECT key, value, expires, revision, xid, ord FROM \
        (SELECT DISTINCT ON (key) * FROM kv_log WHERE (xid, ord) > ($1, $2) \
        ORDER BY key, xid DESC, ord DESC) l ORDER BY xid, ord";
    /// The sessions that may be about to log something.
    pub(crate) const WRITERS: &str = "SELECT DISTINCT pid FROM pg_locks \
        WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND relation = 'kv'::regclass \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    /// The transactions that they are in; no number where another user's may not be seen.
    pub(crate) const THEIR_XIDS: &str = "SELECT backend_xid::text, \
        usesysid = (SELECT oid FROM pg_roles WHERE rolname = current_user) \
        FROM pg_stat_activity WHERE pid = ANY ($1)";
    pub(crate) const SNAPSHOT: &str = "SELECT pg_current_snapshot()::text";
    /// Forgets all but the last changes.
    pub(crate) const TRIM: &str = "WITH \
        last AS MATERIALIZED (SELECT xid FROM kv_log ORDER BY xid DESC, ord DESC OFFSET $1 LIMIT 1), \
        cut AS (SELECT xid FROM last WHERE xid < (SELECT max(xid) FROM kv_log)), \
        f AS (UPDATE backend_version SET log_floor = cut.xid + 1 FROM cut \
        WHERE cut.xid >= log_floor RETURNING log_floor) \
        DELETE FROM kv_log USING f WHERE kv_log.xid < f.log_floor";
    /// The log of a server whose transactions count from elsewhere, as after a dump was restored.
    pub(crate) const FOREIGN: &str = "SELECT EXISTS (SELECT 1 FROM kv_log \
        WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint) OR log_floor > \
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM backend_version";
    pub(crate) const BEGIN_ANEW: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
        LOCK TABLE kv IN SHARE ROW EXCLUSIVE MODE; TRUNCATE kv_log; \
        UPDATE backend_version SET store = gen_random_uuid(), \
        log_floor = pg_current_xact_id()::text::bigint; COMMIT";
    pub(crate) const LISTEN: &str = "SET synchronous_commit = off; SET default_transaction_isolation = 'read committed'; \
        LISTEN access_kv";
    pub(crate) const NOTIFY: &str = "NOTIFY access_kv";
}

/// Who else uses the database; the place takes the name that this process goes by.
pub(crate) const OTHERS: &str = "SELECT coalesce(application_name, ''), \
    coalesce(client_addr::text, 'this host') FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid() \
    AND coalesce(backend_type, 'client backend') = 'client backend' \
    AND application_name <> '{name}'";
