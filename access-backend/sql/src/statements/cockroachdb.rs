//! CockroachDB's. Its transactions are serializable, so that nothing has to be locked; it has no change log, since it
//! has change feeds. A statement may change a table once only, so that a batch is several.

use super::Statements;

pub(crate) const COCKROACHDB: Statements = Statements {
    session: "SET default_transaction_isolation = 'serializable'; \
        SET statement_timeout = '30s'; \
        SET idle_in_transaction_session_timeout = '60s'; \
        SELECT session_id, '', 'false' FROM [SHOW session_id]",
    migrate_begin: "",
    migrate_end: "",
    migrations: &[
        "
CREATE TABLE IF NOT EXISTS kv (
    key BYTES PRIMARY KEY,
    value BYTES NOT NULL,
    expires TIMESTAMPTZ,
    revision UUID NOT NULL,
    INDEX kv_expires (expires)
) WITH (ttl_expiration_expression = 'expires', ttl_job_cron = '{ttl_job_cron}');
CREATE TABLE IF NOT EXISTS events (
    writer BYTES NOT NULL,
    seq INT8 NOT NULL,
    time INT8 NOT NULL,
    name STRING NOT NULL,
    \"user\" STRING,
    json BYTES NOT NULL,
    PRIMARY KEY (writer, seq),
    INDEX events_time (time, writer, seq),
    INDEX events_name (name, time, writer, seq),
    INDEX events_user (\"user\", time, writer, seq)
);
CREATE TABLE IF NOT EXISTS event_writers (
    writer BYTES PRIMARY KEY,
    last_seq INT8 NOT NULL
);",
        "
CREATE TABLE IF NOT EXISTS event_blocks (
    writer BYTES NOT NULL,
    first_seq INT8 NOT NULL,
    last_seq INT8 NOT NULL,
    first_time INT8 NOT NULL,
    last_time INT8 NOT NULL,
    count INT8 NOT NULL,
    names STRING NOT NULL,
    users STRING NOT NULL,
    body BYTES NOT NULL,
    PRIMARY KEY (writer, last_seq),
    INDEX event_blocks_first (first_time, writer, last_seq),
    INDEX event_blocks_last (last_time, writer, last_seq)
);",
    ],

    get: "SELECT value, expires, revision FROM kv WHERE key = $1",
    page: "SELECT key, value, expires, revision FROM kv \
        WHERE key >= $1 AND key < $2 AND (expires IS NULL OR expires > $3) ORDER BY key LIMIT $4",
    page_lately: "SELECT key, value, expires, revision FROM kv \
        AS OF SYSTEM TIME follower_read_timestamp() \
        WHERE key >= $1 AND key < $2 AND (expires IS NULL OR expires > $3) ORDER BY key LIMIT $4",
    look: "SELECT revision FROM kv WHERE key = $1 AND (expires IS NULL OR expires > $2)",
    begin_read: "BEGIN READ ONLY",

    create: "INSERT INTO kv (key, value, expires, revision) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires, \
        revision = excluded.revision WHERE kv.expires <= $5",
    put: "UPSERT INTO kv (key, value, expires, revision) VALUES ($1, $2, $3, $4)",
    update: "UPDATE kv SET value = $2, expires = $3, revision = $4 \
        WHERE key = $1 AND revision = $6 AND (expires IS NULL OR expires > $5)",
    delete: "DELETE FROM kv WHERE key = $1 AND $2::uuid IS NOT NULL \
        AND (expires IS NULL OR expires > $3)",
    delete_if: "DELETE FROM kv WHERE key = $1 AND $2::uuid IS NOT NULL \
        AND revision = $4 AND (expires IS NULL OR expires > $3)",
    keep_alive: "UPDATE kv SET expires = $2, revision = $3 \
        WHERE key = $1 AND (expires IS NULL OR expires > $4)",
    keep_alive_if: "UPDATE kv SET expires = $2, revision = $3 \
        WHERE key = $1 AND revision = $5 AND (expires IS NULL OR expires > $4)",
    delete_range_lock: None,
    delete_range: "WITH w AS (DELETE FROM kv WHERE key >= $1 AND key < $2 \
        AND $4::uuid IS NOT NULL RETURNING expires) \
        SELECT count(*) FROM w WHERE expires IS NULL OR expires > $3",
    sweep: "DELETE FROM kv WHERE expires <= $1 AND $3::uuid IS NOT NULL \
        ORDER BY expires, key LIMIT $2",

    batch_check: "SELECT min(c.i) FROM \
        unnest($1::BYTES[], $2::INT2[], $3::UUID[]) WITH ORDINALITY AS c (k, want, rev, i) \
        LEFT JOIN (SELECT key, revision FROM kv \
        WHERE key = ANY ($1) AND (expires IS NULL OR expires > $4)) AS live ON live.key = c.k \
        WHERE NOT CASE c.want WHEN 0 THEN live.key IS NULL WHEN 1 THEN live.key IS NOT NULL \
        ELSE coalesce(live.revision = c.rev, false) END",
    batch_hold: None,
    batch: None,
    batch_put: "UPSERT INTO kv (key, value, expires, revision) \
        SELECT n.k, n.v, n.e, $4::UUID FROM \
        unnest($1::BYTES[], $2::BYTES[], $3::TIMESTAMPTZ[]) AS n (k, v, e)",
    batch_delete: "DELETE FROM kv WHERE key = ANY ($1::BYTES[])",

    // Everybody may see and end sessions of their own.
    end_session: "CANCEL SESSION IF EXISTS '{session}'",
    // With ALL, a node that cannot be asked is there as well, as a row without a session.
    session_there: "SELECT 1 FROM [SHOW ALL CLUSTER SESSIONS] \
        WHERE session_id = '{session}' AND status <> 'CLOSED' \
        OR session_id IS NULL AND node_id = {node}",
    written: "SELECT revision FROM kv WHERE key = $1",

    append_events: "WITH e AS (INSERT INTO events (writer, seq, time, name, \"user\", json) \
        SELECT n.w, n.s, n.t, n.n, n.u, n.j FROM unnest($1::BYTES[], $2::INT8[], $3::INT8[], \
        $4::STRING[], $5::STRING[], $6::BYTES[]) AS n (w, s, t, n, u, j) \
        WHERE coalesce((SELECT b.first_seq > n.s FROM event_blocks AS b \
        WHERE b.writer = n.w AND b.last_seq >= n.s ORDER BY b.last_seq LIMIT 1), true) \
        ON CONFLICT (writer, seq) DO NOTHING RETURNING writer, seq), \
        w AS (INSERT INTO event_writers (writer, last_seq) \
        SELECT writer, max(seq) FROM e GROUP BY writer \
        ON CONFLICT (writer) DO UPDATE \
        SET last_seq = greatest(event_writers.last_seq, excluded.last_seq) RETURNING 1) \
        SELECT count(*) FROM e",
    append_blocks: "WITH w AS (INSERT INTO event_writers (writer, last_seq) VALUES ($1, $2) \
        ON CONFLICT (writer) DO UPDATE SET last_seq = excluded.last_seq \
        WHERE event_writers.last_seq < $3 RETURNING writer), \
        b AS (INSERT INTO event_blocks \
        (writer, first_seq, last_seq, first_time, last_time, count, names, users, body) \
        SELECT w.writer, n.a, n.b, n.c, n.d, n.e, n.f, n.g, n.h FROM w, unnest($4::INT8[], $5::INT8[], $6::INT8[], $7::INT8[], $8::INT8[], \
        $9::STRING[], $10::STRING[], $11::BYTES[]) \
        AS n (a, b, c, d, e, f, g, h) RETURNING 1) \
        SELECT count(*) FROM b",
    last_seq: "SELECT last_seq FROM event_writers WHERE writer = $1",
    delete_events: "DELETE FROM events WHERE time < $1 ORDER BY time, writer, seq LIMIT $2",
    delete_blocks: "WITH d AS (DELETE FROM event_blocks WHERE (writer, last_seq) IN \
        (SELECT writer, last_seq FROM event_blocks WHERE last_time < $1 \
        ORDER BY last_time LIMIT $2) RETURNING count) \
        SELECT coalesce(sum(count), 0)::INT8 FROM d",
};

/// What only this dialect has: change feeds.
pub(crate) mod feed {
    /// A feed has no end.
    pub(crate) const SESSION: &str = "SET statement_timeout = 0";
    /// Whether change feeds can be had at all.
    pub(crate) const RANGEFEEDS: &str = "SHOW CLUSTER SETTING kv.rangefeed.enabled";
    pub(crate) const ENABLE: &str = "SET CLUSTER SETTING kv.rangefeed.enabled = true";
    /// The moment as the database orders its transactions.
    pub(crate) const NOW: &str = "SELECT cluster_logical_timestamp()::STRING";
    /// From a moment on; the moment goes in as text, since no parameter is allowed here.
    pub(crate) const CREATE: &str = "CREATE CHANGEFEED FOR TABLE kv WITH cursor = '{cursor}', \
        updated, resolved = '500ms', min_checkpoint_frequency = '500ms', envelope = 'wrapped', \
        format = 'json'";
    pub(crate) const STORE: &str = "SELECT store::STRING FROM backend_version";
}

/// Who else uses the database; the place takes the name that this process goes by.
pub(crate) const OTHERS: &str = "SELECT application_name, client_address \
    FROM [SHOW CLUSTER SESSIONS] WHERE user_name = current_user() \
    AND application_name NOT LIKE '$ internal%' AND application_name <> '{name}'";

/// After the table, in a search that may be some seconds old.
pub(crate) const LATELY: &str = "AS OF SYSTEM TIME follower_read_timestamp()";

/// How long events are kept, and when what has expired is deleted.
pub(crate) mod retention {
    /// When expired rows are deleted.
    pub(crate) const SET_CRON: &str = "ALTER TABLE kv SET (ttl_job_cron = '{ttl_job_cron}')";
    /// The tables of events, and the column of each that says when what is in it happened.
    pub(crate) const TABLES: [(&str, &str); 2] =
        [("events", "time"), ("event_blocks", "last_time")];
    pub(crate) const FOUND: &str = "SELECT create_statement FROM [SHOW CREATE TABLE {table}]";
    /// Keeps them for ever. <https://www.cockroachlabs.com/docs/stable/row-level-ttl#remove-row-level-ttl-from-a-table>
    pub(crate) const RESET: &str = "ALTER TABLE {table} RESET (ttl)";
    /// A moment without a zone can be counted on from and then be given one. The other way round depends on the
    /// session, and is no expression for this.
    pub(crate) const SET: &str = "ALTER TABLE {table} SET (ttl_expiration_expression = \
        '(TIMESTAMP ''1970-01-01 00:00:00'' + \"{column}\" * INTERVAL ''1 millisecond'' + \
        INTERVAL ''{days} days'') AT TIME ZONE ''UTC''', ttl_job_cron = '{ttl_job_cron}')";
}

/// The regions of a database. Names are put into their places as identifiers, in double quotes.
pub(crate) mod regions {
    pub(crate) const OF_DATABASE: &str =
        "SELECT region, \"primary\", secondary FROM [SHOW REGIONS FROM DATABASE]";
    pub(crate) const OF_CLUSTER: &str = "SELECT region FROM [SHOW REGIONS FROM CLUSTER]";
    pub(crate) const GOAL: &str = "SELECT survival_goal FROM [SHOW SURVIVAL GOAL FROM DATABASE]";
    pub(crate) const PRIMARY: &str = "ALTER DATABASE {database} SET PRIMARY REGION {region}";
    pub(crate) const ADD: &str = "ALTER DATABASE {database} ADD REGION IF NOT EXISTS {region}";
    pub(crate) const SECONDARY: &str = "ALTER DATABASE {database} SET SECONDARY REGION {region}";
    pub(crate) const SURVIVE_REGION: &str = "ALTER DATABASE {database} SURVIVE REGION FAILURE";
    pub(crate) const SURVIVE_ZONE: &str = "ALTER DATABASE {database} SURVIVE ZONE FAILURE";
}
