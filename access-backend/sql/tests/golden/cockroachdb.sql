-- Every statement that is sent to cockroachdb. Kept by a test: BLESS=1 writes it anew.

-- of each connection, first
SELECT version();

-- of each connection
SET default_transaction_isolation = 'serializable'; SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'; SELECT session_id, '', 'false' FROM [SHOW session_id];

-- of a start: what is there
SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = current_schema() AND table_name IN ('backend_version', 'kv', 'kv_log', 'events', 'event_blocks', 'event_writers');

-- of a start: which version
SELECT version FROM backend_version;

-- of a first start
CREATE TABLE IF NOT EXISTS backend_version (id INT8 PRIMARY KEY CHECK (id = 1), version INT8 NOT NULL, store UUID NOT NULL);

-- of a first start
INSERT INTO backend_version (id, version, store) VALUES (1, 0, gen_random_uuid()) ON CONFLICT (id) DO NOTHING;

-- a step of the schema
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
    "user" STRING,
    json BYTES NOT NULL,
    PRIMARY KEY (writer, seq),
    INDEX events_time (time, writer, seq),
    INDEX events_name (name, time, writer, seq),
    INDEX events_user ("user", time, writer, seq)
);
CREATE TABLE IF NOT EXISTS event_writers (
    writer BYTES PRIMARY KEY,
    last_seq INT8 NOT NULL
);

-- a step of the schema
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
);

-- of a first start: after each step
UPDATE backend_version SET version = {version} WHERE version < {version};

-- of a start, and now and then: the clock
SELECT extract(epoch FROM clock_timestamp())::float8;

-- of several statements
BEGIN;

-- of several statements
COMMIT;

-- of several statements
ROLLBACK;

-- get
SELECT value, expires, revision FROM kv WHERE key = $1;

-- range, and a watch's snapshot
SELECT key, value, expires, revision FROM kv WHERE key >= $1 AND key < $2 AND (expires IS NULL OR expires > $3) ORDER BY key LIMIT $4;

-- a list that may be some seconds old
SELECT key, value, expires, revision FROM kv AS OF SYSTEM TIME follower_read_timestamp() WHERE key >= $1 AND key < $2 AND (expires IS NULL OR expires > $3) ORDER BY key LIMIT $4;

-- after a refusal
SELECT revision FROM kv WHERE key = $1 AND (expires IS NULL OR expires > $2);

-- before a snapshot
BEGIN READ ONLY;

-- create
INSERT INTO kv (key, value, expires, revision) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires, revision = excluded.revision WHERE kv.expires <= $5;

-- put
UPSERT INTO kv (key, value, expires, revision) VALUES ($1, $2, $3, $4);

-- update
UPDATE kv SET value = $2, expires = $3, revision = $4 WHERE key = $1 AND revision = $6 AND (expires IS NULL OR expires > $5);

-- delete
DELETE FROM kv WHERE key = $1 AND $2::uuid IS NOT NULL AND (expires IS NULL OR expires > $3);

-- delete_if
DELETE FROM kv WHERE key = $1 AND $2::uuid IS NOT NULL AND revision = $4 AND (expires IS NULL OR expires > $3);

-- keep_alive
UPDATE kv SET expires = $2, revision = $3 WHERE key = $1 AND (expires IS NULL OR expires > $4);

-- keep_alive with a revision
UPDATE kv SET expires = $2, revision = $3 WHERE key = $1 AND revision = $5 AND (expires IS NULL OR expires > $4);

-- delete_range
WITH w AS (DELETE FROM kv WHERE key >= $1 AND key < $2 AND $4::uuid IS NOT NULL RETURNING expires) SELECT count(*) FROM w WHERE expires IS NULL OR expires > $3;

-- sweep
DELETE FROM kv WHERE expires <= $1 AND $3::uuid IS NOT NULL ORDER BY expires, key LIMIT $2;

-- batch: conditions
SELECT min(c.i) FROM unnest($1::BYTES[], $2::INT2[], $3::UUID[]) WITH ORDINALITY AS c (k, want, rev, i) LEFT JOIN (SELECT key, revision FROM kv WHERE key = ANY ($1) AND (expires IS NULL OR expires > $4)) AS live ON live.key = c.k WHERE NOT CASE c.want WHEN 0 THEN live.key IS NULL WHEN 1 THEN live.key IS NOT NULL ELSE coalesce(live.revision = c.rev, false) END;

-- batch: puts
UPSERT INTO kv (key, value, expires, revision) SELECT n.k, n.v, n.e, $4::UUID FROM unnest($1::BYTES[], $2::BYTES[], $3::TIMESTAMPTZ[]) AS n (k, v, e);

-- batch: deletes
DELETE FROM kv WHERE key = ANY ($1::BYTES[]);

-- after a lost connection: end its session
CANCEL SESSION IF EXISTS '{session}';

-- after a lost connection: until it is gone
SELECT 1 FROM [SHOW ALL CLUSTER SESSIONS] WHERE session_id = '{session}' AND status <> 'CLOSED' OR session_id IS NULL AND node_id = {node};

-- after a lost connection: what it wrote
SELECT revision FROM kv WHERE key = $1;

-- append
WITH e AS (INSERT INTO events (writer, seq, time, name, "user", json) SELECT n.w, n.s, n.t, n.n, n.u, n.j FROM unnest($1::BYTES[], $2::INT8[], $3::INT8[], $4::STRING[], $5::STRING[], $6::BYTES[]) AS n (w, s, t, n, u, j) WHERE coalesce((SELECT b.first_seq > n.s FROM event_blocks AS b WHERE b.writer = n.w AND b.last_seq >= n.s ORDER BY b.last_seq LIMIT 1), true) ON CONFLICT (writer, seq) DO NOTHING RETURNING writer, seq), w AS (INSERT INTO event_writers (writer, last_seq) SELECT writer, max(seq) FROM e GROUP BY writer ON CONFLICT (writer) DO UPDATE SET last_seq = greatest(event_writers.last_seq, excluded.last_seq) RETURNING 1) SELECT count(*) FROM e;

-- append of many
WITH w AS (INSERT INTO event_writers (writer, last_seq) VALUES ($1, $2) ON CONFLICT (writer) DO UPDATE SET last_seq = excluded.last_seq WHERE event_writers.last_seq < $3 RETURNING writer), b AS (INSERT INTO event_blocks (writer, first_seq, last_seq, first_time, last_time, count, names, users, body) SELECT w.writer, n.a, n.b, n.c, n.d, n.e, n.f, n.g, n.h FROM w, unnest($4::INT8[], $5::INT8[], $6::INT8[], $7::INT8[], $8::INT8[], $9::STRING[], $10::STRING[], $11::BYTES[]) AS n (a, b, c, d, e, f, g, h) RETURNING 1) SELECT count(*) FROM b;

-- last_seq
SELECT last_seq FROM event_writers WHERE writer = $1;

-- delete_before
DELETE FROM events WHERE time < $1 ORDER BY time, writer, seq LIMIT $2;

-- delete_before: of many
WITH d AS (DELETE FROM event_blocks WHERE (writer, last_seq) IN (SELECT writer, last_seq FROM event_blocks WHERE last_time < $1 ORDER BY last_time LIMIT $2) RETURNING count) SELECT coalesce(sum(count), 0)::INT8 FROM d;

-- migrating: who else is there
SELECT application_name, client_address FROM [SHOW CLUSTER SESSIONS] WHERE user_name = current_user() AND application_name NOT LIKE '$ internal%' AND application_name <> '{name}';

-- of a start: how long events are kept
SELECT create_statement FROM [SHOW CREATE TABLE {table}];

-- of a start: if that is not what the configuration says
ALTER TABLE {table} SET (ttl_expiration_expression = '(TIMESTAMP ''1970-01-01 00:00:00'' + "{column}" * INTERVAL ''1 millisecond'' + INTERVAL ''{days} days'') AT TIME ZONE ''UTC''', ttl_job_cron = '{ttl_job_cron}');

-- of a start: the same for expired rows
ALTER TABLE kv SET (ttl_job_cron = '{ttl_job_cron}');

-- of a start: if they are to be kept
ALTER TABLE {table} RESET (ttl);

-- backend status: the regions
SELECT region, "primary", secondary FROM [SHOW REGIONS FROM DATABASE];

-- backend status: what is outlived
SELECT survival_goal FROM [SHOW SURVIVAL GOAL FROM DATABASE];

-- backend multi-region: those that there are
SELECT region FROM [SHOW REGIONS FROM CLUSTER];

-- backend multi-region
ALTER DATABASE {database} SET PRIMARY REGION {region};

-- backend multi-region
ALTER DATABASE {database} ADD REGION IF NOT EXISTS {region};

-- backend multi-region
ALTER DATABASE {database} SET SECONDARY REGION {region};

-- backend multi-region
ALTER DATABASE {database} SURVIVE REGION FAILURE;

-- backend multi-region
ALTER DATABASE {database} SURVIVE ZONE FAILURE;

-- of the feed's connection
SET statement_timeout = 0;

-- feed: whether there can be one
SHOW CLUSTER SETTING kv.rangefeed.enabled;

-- feed: which store it is
SELECT store::STRING FROM backend_version;

-- feed, and a watch: the moment
SELECT cluster_logical_timestamp()::STRING;

-- feed
CREATE CHANGEFEED FOR TABLE kv WITH cursor = '{cursor}', updated, resolved = '500ms', min_checkpoint_frequency = '500ms', envelope = 'wrapped', format = 'json';

-- told to an administrator
SET CLUSTER SETTING kv.rangefeed.enabled = true;

-- search for all
SELECT writer, seq, time, name, "user", json FROM events WHERE true ORDER BY time DESC, writer DESC, seq DESC LIMIT $1;

-- search for all
SELECT writer, last_seq, body, last_time FROM event_blocks WHERE true ORDER BY last_time DESC, writer DESC, last_seq DESC LIMIT 4;

-- search for one name
SELECT writer, seq, time, name, "user", json FROM events WHERE true AND name = $1 ORDER BY time DESC, writer DESC, seq DESC LIMIT $2;

-- search for one name
SELECT writer, last_seq, body, last_time FROM event_blocks WHERE true AND (names = '' OR EXISTS (SELECT 1 FROM unnest($1) AS n (n) WHERE strpos(names, n.n) > 0)) ORDER BY last_time DESC, writer DESC, last_seq DESC LIMIT 4;

-- search by everything
SELECT writer, seq, time, name, "user", json FROM events WHERE true AND time >= $1 AND time < $2 AND "user" = $3 AND name = ANY ($4) AND (time, writer, seq) > ($5, $6, $7) ORDER BY time ASC, writer ASC, seq ASC LIMIT $8;

-- search by everything
SELECT writer, last_seq, body, first_time FROM event_blocks WHERE true AND last_time >= $1 AND first_time < $2 AND (users = '' OR strpos(users, $3) > 0) AND (names = '' OR EXISTS (SELECT 1 FROM unnest($4) AS n (n) WHERE strpos(names, n.n) > 0)) AND last_time >= $5 AND (first_time, writer, last_seq) > ($6, $7, $8) ORDER BY first_time ASC, writer ASC, last_seq ASC LIMIT 4;

-- search in what is past
SELECT writer, seq, time, name, "user", json FROM events AS OF SYSTEM TIME follower_read_timestamp() WHERE true AND time < $1 ORDER BY time DESC, writer DESC, seq DESC LIMIT $2;

-- search in what is past
SELECT writer, last_seq, body, last_time FROM event_blocks AS OF SYSTEM TIME follower_read_timestamp() WHERE true AND first_time < $1 ORDER BY last_time DESC, writer DESC, last_seq DESC LIMIT 4;

-- backend status: latency
SELECT 1;

-- backend status: rows
SELECT count(*) FROM kv;
