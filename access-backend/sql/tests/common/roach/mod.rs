//! A stand-in for CockroachDB: the PostgreSQL wire, and as much of a database as our statements need, with the faults
//! that only CockroachDB has. It executes one transaction at a time, which is serializable.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

const BYTEA: u32 = 17;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const BYTEAS: u32 = 1001;
const INT2S: u32 = 1005;
const MOMENT: u32 = 1184;
const MOMENTS: u32 = 1185;
const UUID: u32 = 2950;
const UUIDS: u32 = 2951;

#[derive(Clone, Debug)]
struct Row {
    value: Bytes,
    expires: Option<i64>,
    revision: Bytes,
}

#[derive(Debug, Default)]
struct Db {
    rows: BTreeMap<Bytes, Row>,
    /// Key and row by the moment of the commit.
    history: Vec<(u64, Bytes, Option<Row>)>,
    wall: u64,
    tables: bool,
    version: Option<u64>,
}

/// What goes wrong next.
#[derive(Debug, Default)]
pub struct Faults {
    /// Commits that are refused with 40001.
    pub conflicts: AtomicU64,
    /// Commits after which the connection is cut instead of an answer.
    pub cuts_after_commit: AtomicU64,
    /// Commits before which the connection is cut.
    pub cuts_before_commit: AtomicU64,
    /// Feeds resolve nothing.
    pub stalled: AtomicBool,
    /// Feeds are ended after their next message.
    pub feeds_cut: AtomicU64,
    /// What feeds missed is no longer there.
    pub forgotten: AtomicBool,
    /// Change feeds are switched off.
    pub no_rangefeeds: AtomicBool,
}

/// The server; it ends with its runtime.
pub struct Roach {
    pub port: u16,
    pub faults: Arc<Faults>,
    shared: Arc<Shared>,
}

struct Shared {
    db: Arc<AsyncMutex<Db>>,
    faults: Arc<Faults>,
    committed: watch::Sender<u64>,
    /// Every statement that was sent, once.
    said: Mutex<Vec<String>>,
    feeds: AtomicU64,
}

impl Roach {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults: Arc<Faults> = Arc::default();
        let db = Db { wall: 1_700_000_000_000_000_000 + u64::from(port), ..Db::default() };
        let shared = Arc::new(Shared {
            db: Arc::new(AsyncMutex::new(db)),
            faults: faults.clone(),
            committed: watch::Sender::new(0),
            said: Mutex::default(),
            feeds: AtomicU64::new(0),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let session = Session {
                    shared: serving.clone(),
                    stream,
                    statements: BTreeMap::new(),
                    portal: None,
                    tx: Tx::None,
                    out: BytesMut::new(),
                };
                tokio::spawn(session.serve());
            }
        });
        Self { port, faults, shared }
    }

    pub fn url(&self) -> String {
        format!("postgres://root@127.0.0.1:{}/defaultdb?sslmode=disable", self.port)
    }

    /// Every statement that was sent, in order, each once.
    pub fn said(&self) -> Vec<String> {
        self.shared.said.lock().unwrap().clone()
    }

    /// How many feeds were begun.
    pub fn feeds(&self) -> u64 {
        self.shared.feeds.load(Ordering::SeqCst)
    }
}

enum Tx {
    None,
    /// With the rows as they were before.
    Open(OwnedMutexGuard<Db>, BTreeMap<Bytes, Row>, Vec<Bytes>),
    /// What a transaction that only reads has seen at its begin.
    Reading(BTreeMap<Bytes, Row>, u64),
    Failed,
}

struct Session {
    shared: Arc<Shared>,
    stream: TcpStream,
    statements: BTreeMap<String, String>,
    portal: Option<(String, Vec<Option<Bytes>>)>,
    tx: Tx,
    out: BytesMut,
}

/// The connection is to be cut.
struct Cut;

type Answer = Result<(Vec<Vec<Option<Bytes>>>, u64), (&'static str, String)>;

fn take(counter: &AtomicU64) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Session {
    async fn serve(mut self) {
        let _cut = self.run().await;
    }

    async fn run(&mut self) -> Result<(), Cut> {
        let len = self.stream.read_u32().await.map_err(|_| Cut)?;
        let mut startup = vec![0; len as usize - 4];
        self.stream.read_exact(&mut startup).await.map_err(|_| Cut)?;
        self.message(b'R', &0u32.to_be_bytes());
        self.message(b'S', b"server_version\x0013.0.0\0");
        self.message(b'K', &[0; 8]);
        self.ready().await?;
        let mut skipping = false;
        loop {
            let tag = self.stream.read_u8().await.map_err(|_| Cut)?;
            let len = self.stream.read_u32().await.map_err(|_| Cut)?;
            let mut body = vec![0; len as usize - 4];
            self.stream.read_exact(&mut body).await.map_err(|_| Cut)?;
            let mut body = Bytes::from(body);
            match tag {
                b'X' => return Err(Cut),
                b'S' => {
                    skipping = false;
                    self.ready().await?;
                }
                _ if skipping => {}
                b'Q' => {
                    let text = string(&mut body);
                    self.simple(&text).await?;
                    self.ready().await?;
                }
                b'P' => {
                    let (name, text) = (string(&mut body), string(&mut body));
                    self.shared.hear(&text);
                    self.statements.insert(name, text);
                    self.message(b'1', b"");
                }
                b'D' => {
                    body.advance(1);
                    let text = self.statements.get(&string(&mut body)).cloned().unwrap_or_default();
                    let (params, columns) = shape(&text);
                    let mut out = BytesMut::new();
                    out.put_u16(params.len() as u16);
                    params.iter().for_each(|oid| out.put_u32(*oid));
                    self.message(b't', &out);
                    self.describe(columns, 1);
                }
                b'B' => {
                    string(&mut body);
                    let statement = string(&mut body);
                    let formats = body.get_u16();
                    body.advance(usize::from(formats) * 2);
                    let count = body.get_u16();
                    let params = (0..count).map(|_| field(&mut body)).collect();
                    let text = self.statements.get(&statement).cloned().unwrap_or_default();
                    self.portal = Some((text, params));
                    self.message(b'2', b"");
                }
                b'E' => {
                    let Some((text, params)) = self.portal.take() else { return Err(Cut) };
                    match self.execute(&text, &params).await? {
                        Ok((rows, count)) => {
                            for row in rows {
                                self.data(&row);
                                self.flush_some().await?;
                            }
                            self.complete(count);
                        }
                        Err((code, said)) => {
                            skipping = true;
                            self.error(code, &said);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A statement of the extended protocol: in the transaction that is open, or in one of its own.
    async fn execute(&mut self, text: &str, params: &[Option<Bytes>]) -> Result<Answer, Cut> {
        match &mut self.tx {
            Tx::Failed => return Ok(Err(("25P02", "current transaction is aborted".into()))),
            Tx::Reading(rows, wall) => {
                let mut db = Db { rows: std::mem::take(rows), wall: *wall, ..Db::default() };
                let answer = apply(&mut db, text, params, &mut Vec::new());
                *rows = db.rows;
                return Ok(answer);
            }
            Tx::Open(db, _, written) => return Ok(apply(db, text, params, written)),
            Tx::None => {}
        }
        if text.starts_with("SELECT") {
            let mut db = self.shared.db.lock().await;
            return Ok(apply(&mut db, text, params, &mut Vec::new()));
        }
        self.begin().await;
        let answer = match &mut self.tx {
            Tx::Open(db, _, written) => apply(db, text, params, written),
            _ => return Err(Cut),
        };
        Ok(match (answer, self.commit().await?) {
            (Ok(answer), Ok(())) => Ok(answer),
            (_, Err(refused)) => Err(refused),
            (refused, _) => refused,
        })
    }

    async fn begin(&mut self) {
        let db = self.shared.db.clone().lock_owned().await;
        let before = db.rows.clone();
        self.tx = Tx::Open(db, before, Vec::new());
    }

    async fn commit(&mut self) -> Result<Result<(), (&'static str, String)>, Cut> {
        let tx = std::mem::replace(&mut self.tx, Tx::None);
        let Tx::Open(mut db, before, written) = tx else { return Ok(Ok(())) };
        let faults = self.shared.faults.clone();
        if !written.is_empty() {
            if take(&faults.conflicts) {
                db.rows = before;
                return Ok(Err(("40001", "restart transaction: TransactionRetryError".into())));
            }
            if take(&faults.cuts_before_commit) {
                db.rows = before;
                return Err(Cut);
            }
        }
        db.wall += 1000;
        let wall = db.wall;
        for key in &written {
            let row = db.rows.get(key).cloned();
            db.history.push((wall, key.clone(), row));
        }
        drop(db);
        self.shared.committed.send_replace(wall);
        if !written.is_empty() && take(&faults.cuts_after_commit) {
            return Err(Cut);
        }
        Ok(Ok(()))
    }

    /// A text of the simple protocol.
    async fn simple(&mut self, text: &str) -> Result<(), Cut> {
        self.shared.hear(text);
        match text {
            "BEGIN" => self.begin().await,
            "BEGIN READ ONLY" => {
                let mut db = self.shared.db.lock().await;
                db.wall += 1;
                self.tx = Tx::Reading(db.rows.clone(), db.wall);
            }
            "COMMIT" => {
                if let Err((code, said)) = self.commit().await? {
                    self.error(code, &said);
                    return Ok(());
                }
            }
            "ROLLBACK" => {
                if let Tx::Open(db, before, _) = &mut self.tx {
                    db.rows = std::mem::take(before);
                }
                self.tx = Tx::None;
            }
            "SELECT version()" => self.texts(&[&["CockroachDB CCL v25.2.0 (a stand-in)"]]),
            _ if text.contains("FROM [SHOW session_id]") => {
                self.texts(&[&["18ab", "", "false"]]);
            }
            _ if text.contains("information_schema") => {
                let columns = [
                    ["backend_version", "version", "bigint"],
                    ["kv", "key", "bytea"],
                    ["kv", "value", "bytea"],
                    ["kv", "expires", "timestamp with time zone"],
                    ["kv", "revision", "uuid"],
                    ["events", "writer", "bytea"],
                    ["events", "seq", "bigint"],
                    ["events", "time", "bigint"],
                    ["events", "name", "text"],
                    ["events", "user", "text"],
                    ["events", "json", "bytea"],
                    ["event_blocks", "writer", "bytea"],
                    ["event_blocks", "first_seq", "bigint"],
                    ["event_blocks", "last_seq", "bigint"],
                    ["event_blocks", "first_time", "bigint"],
                    ["event_blocks", "last_time", "bigint"],
                    ["event_blocks", "count", "bigint"],
                    ["event_blocks", "names", "text"],
                    ["event_blocks", "users", "text"],
                    ["event_blocks", "body", "bytea"],
                    ["event_writers", "writer", "bytea"],
                    ["event_writers", "last_seq", "bigint"],
                ];
                let there = self.shared.db.lock().await.tables;
                let rows: Vec<&[&str]> = columns.iter().map(|row| &row[..]).collect();
                self.texts(if there { &rows } else { &[] });
            }
            _ if text.starts_with("CREATE CHANGEFEED") => return self.feed(text).await,
            _ if text.starts_with("CREATE TABLE") => self.shared.db.lock().await.tables = true,
            _ if text.starts_with("INSERT INTO backend_version") => {
                self.shared.db.lock().await.version.get_or_insert(0);
            }
            _ if text.starts_with("UPDATE backend_version") => {
                let to = text.split_whitespace().nth(5).and_then(|to| to.parse().ok());
                self.shared.db.lock().await.version = to;
            }
            "SELECT version FROM backend_version" => {
                let version = self.shared.db.lock().await.version.unwrap_or(0).to_string();
                self.texts(&[&[&version]]);
            }
            _ if text.contains("[SHOW REGIONS FROM CLUSTER]") => {
                self.texts(&[&["europe-west1"], &["us-east1"], &["us-west1"]]);
            }
            _ if text.contains("[SHOW REGIONS FROM DATABASE]") => self.texts(&[
                &["europe-west1", "f", "f"],
                &["us-east1", "t", "f"],
                &["us-west1", "f", "t"],
            ]),
            _ if text.contains("[SHOW SURVIVAL GOAL") => self.texts(&[&["region"]]),
            "SELECT count(*) FROM kv" => {
                let count = self.shared.db.lock().await.rows.len().to_string();
                self.texts(&[&[&count]]);
            }
            "SHOW CLUSTER SETTING kv.rangefeed.enabled" => {
                let off = self.shared.faults.no_rangefeeds.load(Ordering::SeqCst);
                self.texts(&[&[if off { "false" } else { "true" }]]);
            }
            "SELECT store::STRING FROM backend_version" => {
                let port = self.stream.local_addr().unwrap().port();
                self.texts(&[&[&format!("5a0e-{port}")]]);
            }
            _ if text.starts_with("SELECT cluster_logical_timestamp") => {
                let now = hlc(self.shared.db.lock().await.wall);
                self.texts(&[&[&now]]);
            }
            _ => {}
        }
        self.complete(0);
        Ok(())
    }

    async fn feed(&mut self, text: &str) -> Result<(), Cut> {
        let faults = self.shared.faults.clone();
        if faults.forgotten.swap(false, Ordering::SeqCst) {
            self.error("XXUUU", "batch timestamp 1.0 must be after replica GC threshold 2.0");
            return Ok(());
        }
        let cursor = text.split('\'').nth(1).unwrap_or_default();
        let mut sent: u64 = cursor.split('.').next().unwrap().parse().unwrap();
        self.shared.feeds.fetch_add(1, Ordering::SeqCst);
        self.describe(&[TEXT, TEXT, TEXT], 0);
        let mut committed = self.shared.committed.subscribe();
        loop {
            let (news, now) = {
                let db = self.shared.db.lock().await;
                let from = db.history.partition_point(|(wall, ..)| *wall <= sent);
                (db.history[from..].to_vec(), db.wall)
            };
            for (wall, key, row) in news {
                sent = wall;
                let key_text = format!("[\"\\\\x{}\"]", hex(&key));
                let after = row.map(|row| {
                    serde_json::json!({
                        "key": format!("\\x{}", hex(&key)),
                        "value": format!("\\x{}", hex(&row.value)),
                        "expires": row.expires.map(shown),
                        "revision": uuid(&row.revision),
                    })
                });
                let message = serde_json::json!({ "after": after, "updated": hlc(wall) });
                let value = format!("\\x{}", hex(message.to_string().as_bytes()));
                let key_text = format!("\\x{}", hex(key_text.as_bytes()));
                self.data(
                    &["kv", &key_text, &value].map(|text| Some(Bytes::from(text.to_owned()))),
                );
                self.flush_some().await?;
                if take(&faults.feeds_cut) {
                    self.flush().await?;
                    return Err(Cut);
                }
            }
            if !faults.stalled.load(Ordering::SeqCst) {
                let value =
                    format!("\\x{}", hex(format!("{{\"resolved\":\"{}\"}}", hlc(now)).as_bytes()));
                self.data(&[None, None, Some(Bytes::from(value))]);
                sent = sent.max(now);
            }
            self.flush().await?;
            let mut gone = [0];
            tokio::select! {
                _ = committed.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
                // The client has closed the connection.
                read = self.stream.read(&mut gone) => {
                    if !matches!(read, Ok(1..)) {
                        return Err(Cut);
                    }
                }
            }
        }
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        self.out.put_u8(tag);
        self.out.put_u32(body.len() as u32 + 4);
        self.out.put_slice(body);
    }

    fn describe(&mut self, columns: &[u32], format: u16) {
        if columns.is_empty() {
            return self.message(b'n', b"");
        }
        let mut out = BytesMut::new();
        out.put_u16(columns.len() as u16);
        for oid in columns {
            out.put_slice(b"c\0");
            out.put_slice(&[0; 6]);
            out.put_u32(*oid);
            out.put_u16(u16::MAX);
            out.put_u32(u32::MAX);
            out.put_u16(format);
        }
        self.message(b'T', &out);
    }

    fn data(&mut self, row: &[Option<Bytes>]) {
        let mut out = BytesMut::new();
        out.put_u16(row.len() as u16);
        for field in row {
            match field {
                Some(field) => {
                    out.put_u32(field.len() as u32);
                    out.put_slice(field);
                }
                None => out.put_u32(u32::MAX),
            }
        }
        self.message(b'D', &out);
    }

    fn texts(&mut self, rows: &[&[&str]]) {
        let width = rows.first().map_or(1, |row| row.len());
        self.describe(&vec![TEXT; width], 0);
        for row in rows {
            let row: Vec<_> =
                row.iter().map(|text| Some(Bytes::from((*text).to_owned()))).collect();
            self.data(&row);
        }
    }

    fn complete(&mut self, count: u64) {
        self.message(b'C', format!("INSERT 0 {count}\0").as_bytes());
    }

    fn error(&mut self, code: &str, said: &str) {
        if let Tx::Open(db, before, _) = &mut self.tx {
            db.rows = std::mem::take(before);
            self.tx = Tx::Failed;
        }
        self.message(b'E', format!("SERROR\0VERROR\0C{code}\0M{said}\0\0").as_bytes());
    }

    async fn ready(&mut self) -> Result<(), Cut> {
        let state = match self.tx {
            Tx::None => b'I',
            Tx::Failed => b'E',
            Tx::Open(..) | Tx::Reading(..) => b'T',
        };
        self.message(b'Z', &[state]);
        self.flush().await
    }

    async fn flush_some(&mut self) -> Result<(), Cut> {
        if self.out.len() < 1 << 16 { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), Cut> {
        let out = self.out.split();
        self.stream.write_all(&out).await.map_err(|_| Cut)
    }
}

impl Shared {
    fn hear(&self, text: &str) {
        let mut said = self.said.lock().unwrap();
        if !said.iter().any(|known| known == text) {
            said.push(text.to_owned());
        }
    }
}

/// The types of a statement's parameters and columns.
fn shape(text: &str) -> (Vec<u32>, &'static [u32]) {
    let shapes: &[(&str, &[u32], &'static [u32])] = &[
        ("SELECT value,", &[BYTEA], &[BYTEA, MOMENT, UUID]),
        ("SELECT key,", &[BYTEA, BYTEA, MOMENT, INT8], &[BYTEA, BYTEA, MOMENT, UUID]),
        ("SELECT revision FROM kv WHERE key = $1 AND", &[BYTEA, MOMENT], &[UUID]),
        ("SELECT revision", &[BYTEA], &[UUID]),
        ("INSERT INTO kv ", &[BYTEA, BYTEA, MOMENT, UUID, MOMENT], &[]),
        (
            "UPSERT INTO kv (key, value, expires, revision) VALUES",
            &[BYTEA, BYTEA, MOMENT, UUID],
            &[],
        ),
        ("UPSERT INTO kv", &[BYTEAS, BYTEAS, MOMENTS, UUID], &[]),
        ("UPDATE kv SET value", &[BYTEA, BYTEA, MOMENT, UUID, MOMENT, UUID], &[]),
        (
            "UPDATE kv SET expires = $2, revision = $3 WHERE key = $1 AND revision",
            &[BYTEA, MOMENT, UUID, MOMENT, UUID],
            &[],
        ),
        ("UPDATE kv SET expires", &[BYTEA, MOMENT, UUID, MOMENT], &[]),
        (
            "DELETE FROM kv WHERE key = $1 AND $2::uuid IS NOT NULL AND revision",
            &[BYTEA, UUID, MOMENT, UUID],
            &[],
        ),
        ("DELETE FROM kv WHERE key = $1", &[BYTEA, UUID, MOMENT], &[]),
        ("DELETE FROM kv WHERE key = ANY", &[BYTEAS], &[]),
        ("DELETE FROM kv WHERE expires", &[MOMENT, INT8, UUID], &[]),
        ("WITH w AS (DELETE FROM kv", &[BYTEA, BYTEA, MOMENT, UUID], &[INT8]),
        ("SELECT min(c.i)", &[BYTEAS, INT2S, UUIDS, MOMENT], &[INT8]),
        ("SELECT cluster_logical_timestamp", &[], &[TEXT]),
    ];
    let found = shapes.iter().find(|(start, ..)| text.starts_with(start));
    found.map_or((Vec::new(), &[]), |(_, params, columns)| (params.to_vec(), columns))
}

/// Does what a statement says.
fn apply(db: &mut Db, text: &str, params: &[Option<Bytes>], written: &mut Vec<Bytes>) -> Answer {
    let bytes = |at: usize| params[at].clone().unwrap();
    let moment =
        |at: usize| params[at].as_ref().map(|raw| i64::from_be_bytes(raw[..].try_into().unwrap()));
    let alive =
        |row: &Row, now: usize| row.expires.is_none_or(|expires| Some(expires) > moment(now));
    let revision_of =
        |row: Option<&Row>| row.map(|row| vec![Some(row.revision.clone())]).into_iter().collect();
    let none = Vec::new();
    let starts = |start: &str| text.starts_with(start);
    let row_of =
        |at: usize| Row { value: bytes(at), expires: moment(at + 1), revision: bytes(at + 2) };
    if starts("SELECT value,") {
        let row = db.rows.get(&bytes(0));
        return Ok((row.map(|row| fields(row).to_vec()).into_iter().collect(), 0));
    }
    if starts("SELECT key,") {
        let limit = usize::try_from(moment(3).unwrap()).unwrap();
        let rows = db.rows.range(bytes(0)..).take_while(|(key, _)| **key < bytes(1));
        let rows = rows
            .filter(|(_, row)| alive(row, 2))
            .take(limit)
            .map(|(key, row)| std::iter::once(Some(key.clone())).chain(fields(row)).collect());
        return Ok((rows.collect(), 0));
    }
    if starts("SELECT revision FROM kv WHERE key = $1 AND") {
        return Ok((revision_of(db.rows.get(&bytes(0)).filter(|row| alive(row, 1))), 0));
    }
    if starts("SELECT revision") {
        return Ok((revision_of(db.rows.get(&bytes(0))), 0));
    }
    if starts("SELECT cluster_logical_timestamp") {
        return Ok((vec![vec![Some(Bytes::from(hlc(db.wall)))]], 0));
    }
    if starts("SELECT min(c.i)") {
        let (keys, wants, revisions) = (array(&bytes(0)), array(&bytes(1)), array(&bytes(2)));
        let failed =
            (1..).zip(keys).zip(wants).zip(revisions).find(|(((_, key), want), revision)| {
                let row = db.rows.get(key.as_ref().unwrap()).filter(|row| alive(row, 3));
                match want.as_ref().unwrap()[1] {
                    0 => row.is_some(),
                    1 => row.is_none(),
                    _ => row.map(|row| &row.revision) != revision.as_ref(),
                }
            });
        let failed = failed
            .map(|(((at, _), _), _): (((i64, _), _), _)| Bytes::copy_from_slice(&at.to_be_bytes()));
        return Ok((vec![vec![failed]], 0));
    }
    if starts("INSERT INTO kv ") {
        if db.rows.get(&bytes(0)).is_some_and(|row| alive(row, 4)) {
            return Ok((none, 0));
        }
        db.rows.insert(bytes(0), row_of(1));
        written.push(bytes(0));
        return Ok((none, 1));
    }
    if starts("UPSERT INTO kv (key, value, expires, revision) VALUES") {
        db.rows.insert(bytes(0), row_of(1));
        written.push(bytes(0));
        return Ok((none, 1));
    }
    if starts("UPSERT INTO kv") {
        let (keys, values, moments) = (array(&bytes(0)), array(&bytes(1)), array(&bytes(2)));
        for ((key, value), expires) in keys.into_iter().zip(values).zip(moments) {
            let expires = expires.map(|raw| i64::from_be_bytes(raw[..].try_into().unwrap()));
            let row = Row { value: value.unwrap(), expires, revision: bytes(3) };
            db.rows.insert(key.clone().unwrap(), row);
            written.extend(key);
        }
        return Ok((none, 1));
    }
    if starts("UPDATE kv SET value") {
        let found = db.rows.get(&bytes(0)).filter(|row| alive(row, 4) && row.revision == bytes(5));
        if found.is_none() {
            return Ok((none, 0));
        }
        db.rows.insert(bytes(0), row_of(1));
        written.push(bytes(0));
        return Ok((none, 1));
    }
    if starts("UPDATE kv SET expires") {
        let expected = params.get(4).cloned().flatten();
        let found = db.rows.get_mut(&bytes(0)).filter(|row| {
            alive(row, 3) && expected.as_ref().is_none_or(|expected| row.revision == *expected)
        });
        let Some(row) = found else { return Ok((none, 0)) };
        (row.expires, row.revision) = (moment(1), bytes(2));
        written.push(bytes(0));
        return Ok((none, 1));
    }
    if starts("DELETE FROM kv WHERE key = $1") {
        let expected = params.get(3).cloned().flatten();
        let found = db.rows.get(&bytes(0)).filter(|row| {
            alive(row, 2) && expected.as_ref().is_none_or(|expected| row.revision == *expected)
        });
        if found.is_none() {
            return Ok((none, 0));
        }
        db.rows.remove(&bytes(0));
        written.push(bytes(0));
        return Ok((none, 1));
    }
    let mut cleared: i64 = 0;
    let gone: Vec<Bytes> = if starts("DELETE FROM kv WHERE key = ANY") {
        array(&bytes(0)).into_iter().flatten().collect()
    } else if starts("WITH w AS (DELETE FROM kv") {
        let rows = db.rows.range(bytes(0)..).take_while(|(key, _)| **key < bytes(1));
        rows.map(|(key, row)| {
            cleared += i64::from(alive(row, 2));
            key.clone()
        })
        .collect()
    } else if starts("DELETE FROM kv WHERE expires") {
        let mut gone: Vec<_> = db.rows.iter().filter(|(_, row)| !alive(row, 0)).collect();
        gone.sort_by_key(|(key, row)| (row.expires, (*key).clone()));
        let limit = usize::try_from(moment(1).unwrap()).unwrap();
        gone.into_iter().take(limit).map(|(key, _)| key.clone()).collect()
    } else {
        return Err(("42601", format!("the stand-in does not know: {text}")));
    };
    let mut count = 0;
    for key in gone {
        if db.rows.remove(&key).is_some() {
            written.push(key);
            count += 1;
        }
    }
    Ok((vec![vec![Some(Bytes::copy_from_slice(&cleared.to_be_bytes()))]], count))
}

fn fields(row: &Row) -> [Option<Bytes>; 3] {
    let expires = row.expires.map(|expires| Bytes::copy_from_slice(&expires.to_be_bytes()));
    [Some(row.value.clone()), expires, Some(row.revision.clone())]
}

fn string(body: &mut Bytes) -> String {
    let end = body.iter().position(|byte| *byte == 0).unwrap();
    let text = String::from_utf8(body.split_to(end).to_vec()).unwrap();
    body.advance(1);
    text
}

fn field(body: &mut Bytes) -> Option<Bytes> {
    let len = body.get_i32();
    usize::try_from(len).ok().map(|len| body.split_to(len))
}

/// <https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c>, `array_recv`.
fn array(raw: &Bytes) -> Vec<Option<Bytes>> {
    let mut raw = raw.clone();
    let dimensions = raw.get_i32();
    raw.advance(8);
    if dimensions == 0 {
        return Vec::new();
    }
    let len = raw.get_i32();
    raw.advance(4);
    (0..len).map(|_| field(&mut raw)).collect()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn hlc(wall: u64) -> String {
    format!("{wall}.0000000000")
}

fn shown(micros: i64) -> String {
    let nanos = (i128::from(micros) + 946_684_800_000_000) * 1000;
    let moment = time::OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
    moment.format(&time::format_description::well_known::Rfc3339).unwrap()
}

fn uuid(raw: &[u8]) -> String {
    let digits = hex(raw);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}
