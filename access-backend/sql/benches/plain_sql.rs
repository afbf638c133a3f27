//! The store against plain SQL that does the same, over one connection each, on one PostgreSQL in one run:
//! `cargo bench -p access-backend-sql`. A figure of 1.0 is as fast as plain SQL.
//!
//! Both are called from one task, in turn, call by call, so that whatever else the machine does meets both. A round's
//! figure is the one time by the other; what is printed is the middle of all rounds, and the quarters beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use access_backend::{Backend, Batch, KeyRange, MAX_PAGE_ITEMS, Operation, Prefix, WatchEvent};
use access_backend_sql::Sql;
use common::{Server, item, key, open};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use tokio_postgres::types::{FromSql, Type, accepts};
use tokio_postgres::{Client, Row, Statement};

const ROUNDS: u32 = 21;
const VALUE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What somebody would write by hand: the row and its place in the log, in one statement.
const PUT: &str = "WITH w AS (INSERT INTO kv (key, value, expires, revision) \
    VALUES ($1, $2, NULL, gen_random_uuid()) ON CONFLICT (key) DO UPDATE \
    SET value = excluded.value, expires = excluded.expires, revision = excluded.revision \
    RETURNING key, value, expires, revision) \
    INSERT INTO kv_log (ord, key, value, expires, revision) \
    SELECT $3::int4, key, value, expires, revision FROM w";
/// What the store asks of its sessions, and the server has its price for: whoever wants the same guarantees by hand
/// asks for it too.
const SETTINGS: &str = "SET default_transaction_isolation = 'repeatable read'; \
    SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'";
const GET: &str = "SELECT value, expires, revision FROM kv WHERE key = $1";
const RANGE: &str = "SELECT key, value, expires, revision FROM kv \
    WHERE key >= $1 AND key < $2 ORDER BY key LIMIT 1001";

struct Bench {
    store: Arc<Sql>,
    plain: Client,
    put: Statement,
    get: Statement,
    range: Statement,
}

#[tokio::main]
async fn main() {
    let server = Server::start();
    server.sql("postgres", "ALTER SYSTEM SET fsync = on");
    server.stop();
    server.start_again();
    let url = server.url(&server.database());
    let store = open(&url).await;
    let (plain, connection) = tokio_postgres::connect(
        url.split("&pool_max_conns").next().unwrap(),
        tokio_postgres::NoTls,
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    plain.batch_execute(SETTINGS).await.unwrap();
    let put = plain.prepare(PUT).await.unwrap();
    let get = plain.prepare(GET).await.unwrap();
    let range = plain.prepare(RANGE).await.unwrap();
    let bench = Bench { store, plain, put, get, range };
    let mut rows = 0;
    while rows < 10_000 {
        let mut batch = Batch::new();
        for _ in 0..250 {
            batch = batch.then(Operation::Put(item(&format!("/r/{rows:05}"), VALUE)));
            rows += 1;
        }
        bench.store.batch(batch).await.unwrap();
    }
    server.sql("d0", "VACUUM ANALYZE");
    let bench = Arc::new(bench);
    for (name, goal, each) in [
        ("put", 0.9, 100),
        ("batch of 100", 0.9, 10),
        ("get", 0.9, 500),
        ("range of 10,000", 0.8, 10),
    ] {
        // Not the main task: that is woken in another way.
        tokio::spawn(compare(bench.clone(), name, goal, each)).await.unwrap();
    }
    watching(&bench.store).await;
    for watchers in [1, 100, 1000] {
        cpu_of_watchers(&bench.store, watchers).await;
    }
}

/// Prints how fast the store is, of plain SQL.
async fn compare(bench: Arc<Bench>, name: &'static str, goal: f64, each: u32) {
    let mut rounds = Vec::new();
    // The first round is practice.
    for round in 0..=ROUNDS {
        let mut took = [Duration::ZERO; 2];
        for number in 0..each {
            // Each of the two first in turn.
            let first = (round + number) % 2;
            for turn in [first, 1 - first] {
                let began = Instant::now();
                match turn {
                    0 => bench.ours(name, number).await,
                    _ => bench.theirs(name, number).await,
                }
                took[turn as usize] += began.elapsed();
            }
        }
        if round > 0 {
            let ratio = took[1].as_secs_f64() / took[0].as_secs_f64();
            rounds.push((ratio, took[0] / each, took[1] / each));
        }
    }
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let at = |quarter: usize| rounds[(rounds.len() - 1) * quarter / 4];
    let ((low, ..), (ratio, ours, theirs), (high, ..)) = (at(1), at(2), at(3));
    println!(
        "{name}: {ratio:.3} of plain SQL (quarters {low:.3} and {high:.3}, goal {goal}): \
         {ours:?} against {theirs:?}"
    );
}

/// A row as somebody would read it by hand, each column a value of one's own.
type Plain = (String, Vec<u8>, Option<SystemTime>, Bits);

/// A revision.
struct Bits(u128);

impl<'a> FromSql<'a> for Bits {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(u128::from_be_bytes(raw.try_into()?)))
    }
    accepts!(UUID);
}

fn plain(row: &Row) -> Plain {
    let key = String::from_utf8(row.get(0)).unwrap();
    (key, row.get(1), row.get(2), row.get(3))
}

impl Bench {
    async fn ours(&self, name: &str, number: u32) {
        match name {
            "put" => drop(self.store.put(item(&format!("/p/{number}"), VALUE)).await.unwrap()),
            "get" => drop(self.store.get(&key("/r/04999")).await.unwrap().unwrap()),
            "batch of 100" => {
                let puts = (0..100).map(|at| Operation::Put(item(&format!("/b/{at}"), VALUE)));
                let batch = Batch { conditions: Vec::new(), operations: puts.collect() };
                self.store.batch(batch).await.unwrap();
            }
            _ => {
                let range = KeyRange::from(Prefix::parse("/r").unwrap());
                let (mut rows, mut after) = (0, None);
                loop {
                    let page =
                        self.store.range(&range, MAX_PAGE_ITEMS, after.as_ref()).await.unwrap();
                    rows += page.items.len();
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(rows, 10_000);
            }
        }
    }

    async fn theirs(&self, name: &str, number: u32) {
        let value = VALUE.as_bytes();
        match name {
            "put" => {
                let key = format!("/p/{number}");
                self.plain.execute(&self.put, &[&key.as_bytes(), &value, &1]).await.unwrap();
            }
            "get" => {
                let row = self.plain.query_one(&self.get, &[&&b"/r/04999"[..]]).await.unwrap();
                let row: (Vec<u8>, Option<SystemTime>, Bits) = (row.get(0), row.get(1), row.get(2));
                assert!(black_box(row).2.0 != 0);
            }
            "batch of 100" => {
                self.plain.batch_execute("BEGIN").await.unwrap();
                let keys: Vec<String> = (0..100).map(|at| format!("/b/{at}")).collect();
                let puts = keys.iter().zip(1..).map(|(key, ord): (_, i32)| async move {
                    self.plain.execute(&self.put, &[&key.as_bytes(), &value, &ord]).await.unwrap();
                });
                futures::future::join_all(puts).await;
                self.plain.batch_execute("COMMIT").await.unwrap();
            }
            _ => {
                let (mut rows, mut from) = (0, b"/r/".to_vec());
                loop {
                    let page = self.plain.query(&self.range, &[&from, &&b"/r0"[..]]).await.unwrap();
                    let read: Vec<Plain> = page.iter().take(1000).map(plain).collect();
                    rows += black_box(read).len();
                    match page.get(1000) {
                        Some(next) => from = next.get(0),
                        None => break,
                    }
                }
                assert_eq!(rows, 10_000);
            }
        }
    }
}

/// How long after a commit its event comes, with 1,000 writes a second and 100 watchers.
async fn watching(store: &Arc<Sql>) {
    const WRITES: u32 = 3000;
    let began = Instant::now();
    let mut watchers = Vec::new();
    for _ in 0..100 {
        let mut watch = store.watch(&[Prefix::parse("/w").unwrap()], None).await.unwrap();
        while !matches!(watch.next().await, Some(Ok(WatchEvent::Ready(_)))) {}
        watchers.push(tokio::spawn(async move {
            let mut delays = Vec::new();
            for _ in 0..WRITES {
                let Some(Ok(WatchEvent::Changed { item, .. })) = watch.next().await else {
                    panic!("no change")
                };
                let sent: u64 = std::str::from_utf8(&item.value).unwrap().parse().unwrap();
                delays.push(began.elapsed().saturating_sub(Duration::from_micros(sent)));
            }
            delays
        }));
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let mut writes = Vec::new();
    for number in 0..WRITES {
        ticks.tick().await;
        let store = store.clone();
        // From before the write, so that the time of the commit is in it.
        let sent = began.elapsed().as_micros().to_string();
        writes.push(tokio::spawn(async move {
            store.put(item(&format!("/w/{number}"), &sent)).await.unwrap();
        }));
    }
    for write in writes {
        write.await.unwrap();
    }
    let mut delays = Vec::new();
    for watcher in watchers {
        delays.extend(watcher.await.unwrap());
    }
    delays.sort();
    let at = |part: usize| delays[delays.len() * part / 100 - 1];
    println!(
        "watch, 1,000 writes a second, 100 watchers, from before the write: p50 {:?}, p99 {:?} (goal 50 ms)",
        at(50),
        at(99)
    );
}

/// What watchers cost this process who see a change in a hundred each, or each change, with 200 writes a second.
async fn cpu_of_watchers(store: &Arc<Sql>, count: usize) {
    const WRITES: usize = 1000;
    let spent = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        let micros = |time: TimeVal| Duration::from_micros(time.num_microseconds() as u64);
        micros(usage.user_time()) + micros(usage.system_time())
    };
    for (name, places) in [("one change in a hundred", 100), ("each change", 1)] {
        let place = |number: usize| format!("/cpu/{name}/{}", number % places).replace(' ', "-");
        let mut watchers = Vec::new();
        for number in 0..count {
            let prefix = Prefix::parse(&place(number)).unwrap();
            let mut watch = store.watch(&[prefix], None).await.unwrap();
            while !matches!(watch.next().await, Some(Ok(WatchEvent::Ready(_)))) {}
            let expected = (0..WRITES).filter(|write| write % places == number % places).count();
            watchers.push(tokio::spawn(async move {
                for _ in 0..expected {
                    black_box(watch.next().await);
                }
            }));
        }
        let (began, before) = (Instant::now(), spent());
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        for number in 0..WRITES {
            ticks.tick().await;
            store.put(item(&format!("{}/row", place(number)), VALUE)).await.unwrap();
        }
        futures::future::join_all(watchers).await;
        let share = (spent() - before).as_secs_f64() / began.elapsed().as_secs_f64();
        println!(
            "{count} watchers of {name}, 200 writes a second: {:.1} % of a core",
            share * 100.0
        );
    }
}
