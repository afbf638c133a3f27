//! A stand-in for CockroachDB: the PostgreSQL wire, and as much of a database as our statements need, with the faults
//! that only CockroachDB has. It executes one transaction at a time, which is serializable. It refuses what
//! `tests/golden` does not have.

mod events;
mod golden;
mod rows;
mod sessions;
mod values;
mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

use self::rows::Row;
use self::values::{TEXT, field, hex, hlc, shown, string, uuid};

/// What a transaction changes.
#[derive(Clone, Debug, Default)]
struct Tables {
    rows: BTreeMap<Bytes, Row>,
    events: events::Events,
}

#[derive(Debug, Default)]
struct Db {
    tables: Tables,
    /// Key and row by the moment of the commit.
    history: Vec<(u64, Bytes, Option<Row>)>,
    wall: u64,
    made: bool,
    version: Option<u64>,
    /// What each table was last set to.
    settings: BTreeMap<String, String>,
}

impl Db {
    /// The next moment.
    fn tick(&mut self) -> u64 {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        self.wall = now.max(self.wall + 1000);
        self.wall
    }
}

/// What a transaction has written.
#[derive(Debug, Default)]
struct Written {
    keys: Vec<Bytes>,
    events: bool,
}

impl Written {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.events
    }
}

/// What goes wrong next.
#[derive(Debug, Default)]
pub struct Faults {
    /// Commits that are refused with 40001.
    pub conflicts: AtomicU64,
    /// Notes of the tables' version that are refused with 40001.
    pub version_conflicts: AtomicU64,
    /// Commits after which the connection is cut instead of an answer.
    pub cuts_after_commit: AtomicU64,
    /// Commits before which the connection is cut.
    pub cuts_before_commit: AtomicU64,
    /// Commits before which the connection is cut, and which are done later, by a session that lives on for a while.
    pub late_commits: AtomicU64,
    /// Sessions whose connections are gone stay.
    pub sessions_stay: AtomicBool,
    /// Feeds resolve nothing.
    pub stalled: AtomicBool,
    /// Feeds resolve the same moment again and again.
    pub stuck: AtomicBool,
    /// Feeds are ended after their next message.
    pub feeds_cut: AtomicU64,
    /// What feeds missed is no longer there.
    pub forgotten: AtomicBool,
    /// What is said of reads of copies nearby.
    pub nearby: Mutex<Option<&'static str>>,
    /// The user is no member of the role admin.
    pub no_admin: AtomicBool,
    /// Change feeds are switched off.
    pub no_rangefeeds: AtomicBool,
    /// What is said within a transaction is answered with its end, or with its conditions.
    pub together: AtomicBool,
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
    sessions: sessions::Sessions,
    feeds: AtomicU64,
}

impl Roach {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults: Arc<Faults> = Arc::default();
        let db = Db { wall: u64::from(port), ..Db::default() };
        let shared = Arc::new(Shared {
            db: Arc::new(AsyncMutex::new(db)),
            faults: faults.clone(),
            committed: watch::Sender::new(0),
            said: Mutex::default(),
            sessions: sessions::Sessions::default(),
            feeds: AtomicU64::new(0),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let session = Session {
                    id: serving.sessions.begin(),
                    shared: serving.clone(),
                    stream,
                    statements: BTreeMap::new(),
                    portal: None,
                    tx: Tx::None,
                    asked: false,
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
    Open(OwnedMutexGuard<Db>, Tables, Written),
    /// What a transaction that only reads has seen at its begin.
    Reading(Tables, u64),
    Failed,
}

struct Session {
    id: String,
    shared: Arc<Shared>,
    stream: TcpStream,
    statements: BTreeMap<String, String>,
    portal: Option<(String, Vec<Option<Bytes>>)>,
    tx: Tx,
    /// The answer that comes next is one that the transaction depends on.
    asked: bool,
    out: BytesMut,
}

/// The connection is to be cut.
struct Cut;

/// Rows, and how many were written.
type Done = (Vec<Vec<Option<Bytes>>>, u64);
type Answer = Result<Done, (&'static str, String)>;
/// How a statement begins, and the types of its parameters and columns.
type Shape = (&'static str, &'static [u32], &'static [u32]);

fn take(counter: &AtomicU64) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Session {
    async fn serve(mut self) {
        let _cut = self.run().await;
        if let Tx::Open(db, before, _) = &mut self.tx {
            db.tables = std::mem::take(before);
        }
        self.tx = Tx::None;
        self.shared.sessions.end(&self.id);
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
                    let refused = *self.shared.faults.nearby.lock().unwrap();
                    if let Some(code) = refused.filter(|_| text.contains(" AS OF SYSTEM TIME ")) {
                        skipping = true;
                        self.error(code, "no such copy");
                    } else if self.shared.hear(&text) {
                        self.statements.insert(name, text);
                        self.message(b'1', b"");
                    } else {
                        skipping = true;
                        self.error("42601", &format!("tests/golden does not have: {text}"));
                    }
                }
                b'D' => {
                    body.advance(1);
                    let text = self.statements.get(&string(&mut body)).cloned().unwrap_or_default();
                    let (params, columns) = shape(&text);
                    let mut out = BytesMut::new();
                    out.put_u16(params.len() as u16);
                    params.iter().for_each(|oid| out.put_u32(*oid));
                    self.message(b't', &out);
                    self.describe(&columns, 1);
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
                    self.asked |= text.starts_with("SELECT min(c.i)");
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
            Tx::Reading(tables, wall) => {
                let mut db = Db { tables: std::mem::take(tables), wall: *wall, ..Db::default() };
                let answer = apply(&mut db, text, params, &mut Written::default());
                *tables = db.tables;
                return Ok(answer);
            }
            Tx::Open(db, _, written) => return Ok(apply(db, text, params, written)),
            Tx::None => {}
        }
        if text.starts_with("SELECT") {
            let mut db = self.shared.db.lock().await;
            return Ok(apply(&mut db, text, params, &mut Written::default()));
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
        let before = db.tables.clone();
        self.tx = Tx::Open(db, before, Written::default());
    }

    async fn commit(&mut self) -> Result<Result<(), (&'static str, String)>, Cut> {
        let tx = std::mem::replace(&mut self.tx, Tx::None);
        let Tx::Open(mut db, before, written) = tx else { return Ok(Ok(())) };
        let faults = self.shared.faults.clone();
        if !written.is_empty() {
            if take(&faults.conflicts) {
                db.tables = before;
                return Ok(Err(("40001", "restart transaction: TransactionRetryError".into())));
            }
            if take(&faults.cuts_before_commit) {
                db.tables = before;
                return Err(Cut);
            }
            if take(&faults.late_commits) {
                let tables = std::mem::replace(&mut db.tables, before);
                let late =
                    written.keys.into_iter().map(|key| (tables.rows.get(&key).cloned(), key));
                self.shared.sessions.linger(&self.id, late.map(|(row, key)| (key, row)).collect());
                return Err(Cut);
            }
        }
        let wall = db.tick();
        for key in &written.keys {
            let row = db.tables.rows.get(key).cloned();
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
        if !self.shared.hear(text) {
            self.error("42601", &format!("tests/golden does not have: {text}"));
            return Ok(());
        }
        let notes =
            text.starts_with("UPDATE backend_version") || text.starts_with("INSERT INTO backend");
        if notes && take(&self.shared.faults.version_conflicts) {
            self.error("40001", "restart transaction: WriteTooOldError");
            return Ok(());
        }
        if text.contains("[SHOW REGIONS") && self.shared.faults.no_admin.load(Ordering::SeqCst) {
            self.error("42501", "only users with the admin role are allowed to do that");
            return Ok(());
        }
        match text {
            "BEGIN" => self.begin().await,
            "BEGIN READ ONLY" => {
                let mut db = self.shared.db.lock().await;
                db.tick();
                self.tx = Tx::Reading(db.tables.clone(), db.wall);
            }
            "COMMIT" => {
                if let Err((code, said)) = self.commit().await? {
                    self.error(code, &said);
                    return Ok(());
                }
            }
            "ROLLBACK" => {
                if let Tx::Open(db, before, _) = &mut self.tx {
                    db.tables = std::mem::take(before);
                }
                self.tx = Tx::None;
            }
            "SELECT version()" => self.texts(&[&["CockroachDB CCL v25.2.0 (a stand-in)"]]),
            _ if text.contains("FROM [SHOW session_id]") => {
                let id = self.id.clone();
                self.texts(&[&[&id, "", "false"]]);
            }
            _ if text.contains("[SHOW ALL CLUSTER SESSIONS]") => {
                let id = text.split('\'').nth(1).unwrap();
                let there = self.shared.is_there(id).await;
                self.texts(if there { &[&["1"]] } else { &[] });
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
                let there = self.shared.db.lock().await.made;
                let rows: Vec<&[&str]> = columns.iter().map(|row| &row[..]).collect();
                self.texts(if there { &rows } else { &[] });
            }
            _ if text.contains("[SHOW CREATE TABLE") => {
                let table = text.rsplit(' ').next().unwrap().trim_end_matches(']');
                let set = self.shared.db.lock().await.settings.get(table).cloned();
                let shown = format!("CREATE TABLE {table} (...) {}", set.unwrap_or_default());
                self.texts(&[&[&shown]]);
            }
            _ if text.starts_with("ALTER TABLE") => {
                let table = text.split(' ').nth(2).unwrap().to_owned();
                let settings = &mut self.shared.db.lock().await.settings;
                match text.contains("RESET (ttl)") {
                    true => settings.remove(&table),
                    false => settings.insert(table, text.to_owned()),
                };
            }
            _ if text.starts_with("CREATE CHANGEFEED") => return self.feed(text).await,
            _ if text.starts_with("CREATE TABLE") => self.shared.db.lock().await.made = true,
            _ if text.starts_with("INSERT INTO backend_version") => {
                self.shared.db.lock().await.version.get_or_insert(0);
            }
            _ if text.starts_with("UPDATE backend_version") => {
                let to = text.split_whitespace().nth(5).and_then(|to| to.parse().ok());
                let version = &mut self.shared.db.lock().await.version;
                *version = to.max(*version);
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
                let count = self.shared.db.lock().await.tables.rows.len().to_string();
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
        let began = sent;
        self.shared.feeds.fetch_add(1, Ordering::SeqCst);
        self.describe(&[TEXT, TEXT, TEXT], 0);
        let mut committed = self.shared.committed.subscribe();
        loop {
            let (news, now) = {
                let mut db = self.shared.db.lock().await;
                let stuck = faults.stuck.load(Ordering::SeqCst);
                let now = if stuck { began } else { db.tick() };
                let from = db.history.partition_point(|(wall, ..)| *wall <= sent);
                (db.history[from..].to_vec(), now)
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
}

impl Shared {
    /// Remembers what was said, and tells whether it is among what may be said.
    fn hear(&self, text: &str) -> bool {
        let mut said = self.said.lock().unwrap();
        if said.iter().any(|known| known == text) {
            return true;
        }
        said.push(text.to_owned());
        golden::has(text)
    }
}

/// The types of a statement's parameters and columns.
fn shape(text: &str) -> (Vec<u32>, Vec<u32>) {
    let found =
        rows::SHAPES.iter().chain(events::SHAPES).find(|(start, ..)| text.starts_with(start));
    found.map_or_else(Default::default, |(_, params, columns)| (params.to_vec(), columns.to_vec()))
}

/// Does what a statement says.
fn apply(db: &mut Db, text: &str, params: &[Option<Bytes>], written: &mut Written) -> Answer {
    if let Some(answer) = db.tables.events.apply(text, params, &mut written.events) {
        return Ok(answer);
    }
    if text.starts_with("SELECT extract(epoch") {
        let seconds = db.tick() as f64 / 1e9;
        return Ok((vec![vec![Some(Bytes::copy_from_slice(&seconds.to_be_bytes()))]], 0));
    }
    if text.starts_with("SELECT cluster_logical_timestamp") {
        return Ok((vec![vec![Some(Bytes::from(hlc(db.wall)))]], 0));
    }
    rows::apply(&mut db.tables.rows, text, params, &mut written.keys)
        .ok_or_else(|| ("42601", format!("the stand-in does not know: {text}")))
}
