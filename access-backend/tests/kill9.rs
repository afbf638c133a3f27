//! A process that writes is killed, again and again: nothing that it had acknowledged may be gone, and no batch half
//! there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use access_backend::{
    Backend, Batch, EventOrder, EventQuery, EventStore, Key, KeyRange, NewItem, Operation, Prefix,
    Sqlite, SqliteOptions, StoredEvent, UnixMillis, Value, read_all,
};
use tempfile::TempDir;

const DIR: &str = "ACCESS_BACKEND_KILL9_DIR";
const KILLS: usize = 1000;
const LANES: usize = 4;
/// Kills after which a lane begins with an empty directory, so that reading all of it stays quick.
const KILLS_A_DIRECTORY: usize = 25;
const WRITERS: usize = 3;
const REGISTERS: usize = 3;

/// A directory for its owner alone, as a store wants it.
fn private_dir() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn options(dir: &Path) -> SqliteOptions {
    // A log this short is folded into the file all the time, so that kills fall into that too.
    SqliteOptions { checkpoint_pages: 16, ..SqliteOptions::new(dir.join("state.db")) }
}

fn register(writer: usize, at: usize) -> Key {
    Key::from_segments(["register", &writer.to_string(), &at.to_string()]).unwrap()
}

fn record(writer: usize, number: u64) -> Key {
    Key::from_segments(["record", &writer.to_string(), &format!("{number:09}")]).unwrap()
}

fn value(number: u64) -> Value {
    Value::new(number.to_string()).unwrap()
}

fn number(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

/// The process that is killed: this same test program, with the directory in its environment.
#[test]
fn writer_process() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Sqlite::open(options(&dir)).await.unwrap());
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

/// Counts on from where the last process was: a batch of several registers, a record of its own, and an event.
async fn write(store: Arc<Sqlite>, writer: usize) {
    let last = store.get(&register(writer, 0)).await.unwrap();
    let mut count = last.map_or(0, |item| number(&item.value));
    let name = writer.to_string();
    loop {
        count += 1;
        let mut batch =
            Batch::new().then(Operation::Put(NewItem::new(record(writer, count), value(count))));
        for at in 0..REGISTERS {
            batch = batch.then(Operation::Put(NewItem::new(register(writer, at), value(count))));
        }
        store.batch(batch).await.unwrap();
        say(&format!("ack {writer} {count}"));
        let event = StoredEvent {
            writer: name.clone(),
            seq: count,
            time: UnixMillis(i64::try_from(count).unwrap()),
            name: "test".into(),
            user: None,
            json: "{}".into(),
        };
        store.append(vec![event]).await.unwrap();
        say(&format!("event {writer} {count}"));
    }
}

fn say(line: &str) {
    // One call, so that a kill leaves no half of a line but the last.
    let _pipe = std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes());
    let _pipe = std::io::stdout().flush();
}

/// What a process had acknowledged when it died: the last number of each writer.
#[derive(Clone, Copy, Default)]
struct Acknowledged {
    rows: [u64; WRITERS],
    events: [u64; WRITERS],
}

impl Acknowledged {
    fn take(&mut self, line: &str) -> bool {
        let parts: Vec<&str> = line.split(' ').collect();
        let [kind, writer, number] = parts[..] else { return false };
        let last = match kind {
            "ack" => &mut self.rows,
            "event" => &mut self.events,
            _ => return false,
        };
        last[writer.parse::<usize>().unwrap()] = number.parse().unwrap();
        true
    }
}

#[test]
fn a_thousand_kills_lose_nothing() {
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| std::thread::spawn(move || run_lane(lane as u64, KILLS / LANES)))
        .collect();
    let mut written = 0;
    for lane in lanes {
        written += lane.join().unwrap();
    }
    assert!(written > KILLS as u64, "the processes wrote {written} batches before they died");
}

fn run_lane(seed: u64, kills: usize) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut dir = private_dir();
    let mut acknowledged = Acknowledged::default();
    let mut written = 0;
    for kill in 0..kills {
        if kill % KILLS_A_DIRECTORY == 0 {
            written += acknowledged.rows.iter().sum::<u64>();
            dir = private_dir();
            acknowledged = Acknowledged::default();
        }
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Up to 12 ms after the first acknowledgement, and one in eight while it is still opening.
        let after = Duration::from_micros(random % 12_000);
        run_and_kill(dir.path(), after, !random.is_multiple_of(8), &mut acknowledged);
        runtime.block_on(check(dir.path(), &acknowledged));
    }
    written + acknowledged.rows.iter().sum::<u64>()
}

fn run_and_kill(dir: &Path, after: Duration, wait: bool, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_process", "--nocapture", "--test-threads", "1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (first, began) = mpsc::channel();
    let mut seen = *acknowledged;
    let reader = std::thread::spawn(move || {
        let mut lines = output.split(b'\n').map_while(Result::ok);
        let mut last = Vec::new();
        for line in lines.by_ref() {
            // The last one may be cut off, and then says less than it should.
            let whole = std::mem::replace(&mut last, line);
            if seen.take(&String::from_utf8_lossy(&whole)) {
                let _late = first.send(());
            }
        }
        seen
    });
    if wait {
        // A process that can't write at all ends, and with it the channel.
        let _began = began.recv_timeout(Duration::from_secs(20));
    }
    std::thread::sleep(after);
    kill(&mut child);
    *acknowledged = reader.join().unwrap();
}

fn kill(child: &mut Child) {
    // On unix this is SIGKILL.
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "it ended before: {status}");
}

async fn check(dir: &Path, acknowledged: &Acknowledged) {
    let store = Sqlite::open(options(dir)).await.unwrap();
    for writer in 0..WRITERS {
        let mut registers = Vec::new();
        for at in 0..REGISTERS {
            let item = store.get(&register(writer, at)).await.unwrap();
            registers.push(item.map_or(0, |item| number(&item.value)));
        }
        let last = registers[0];
        assert_eq!(registers, [last; REGISTERS], "a batch is half there");
        assert!(
            last >= acknowledged.rows[writer],
            "{last} is there, {} was acknowledged",
            acknowledged.rows[writer]
        );
        let below = Prefix::from_segments(["record", &writer.to_string()]).unwrap();
        let records = read_all(&store, &KeyRange::from(below), usize::MAX).await.unwrap();
        let found: Vec<u64> = records.iter().map(|item| number(&item.value)).collect();
        assert_eq!(
            found,
            (1..=last).collect::<Vec<_>>(),
            "each record of a batch came with its registers"
        );

        let stored = store.last_seq(&writer.to_string()).await.unwrap().unwrap_or_default();
        assert!(stored >= acknowledged.events[writer], "an acknowledged event is gone");
    }
    let newest = EventQuery { order: EventOrder::NewestFirst, limit: 1, ..EventQuery::default() };
    store.search(&newest).await.unwrap();
    store.close().await.unwrap();
}
