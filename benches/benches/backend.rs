//! The store's engines: single writes, writes that share a commit, reads.
//!
//! After criterion's figures, raw `write` and `fdatasync` of as many bytes take turns with single
//! commits, so that the disk's own limit stands beside them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark: it prints its result, and has nobody to hand an error to"
)]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access_backend::{
    Backend, Batch, Key, KeyRange, Memory, MemoryOptions, NewItem, Operation, Prefix, Sqlite,
    SqliteOptions, Value,
};
use criterion::{Criterion, Throughput};
use tokio::runtime::Runtime;

/// As long as a document of a node or a user.
const VALUE: usize = 400;
const KEYS: usize = 1000;

fn item(i: usize) -> NewItem {
    let key = Key::from_segments(["bench", &format!("{:05}", i % KEYS)]).unwrap();
    NewItem::new(key, Value::new(vec![b'x'; VALUE]).unwrap())
}

fn batch(from: usize, size: usize) -> Batch {
    (from..from + size).fold(Batch::new(), |batch, i| batch.then(Operation::Put(item(i))))
}

/// Writes of as many tasks at once, each of which waits for its own.
async fn concurrent(store: &Arc<dyn Backend>, tasks: usize, each: usize) {
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for i in 0..each {
                    store.put(item(task * each + i)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn with_criterion(
    criterion: &mut Criterion,
    runtime: &Runtime,
    name: &str,
    store: &Arc<dyn Backend>,
) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(30);
    let mut next = 0;
    let mut take = move |count: usize| {
        next += count;
        next
    };
    group.bench_function("put", |b| {
        b.iter(|| runtime.block_on(store.put(item(take(1)))).unwrap());
    });
    group.throughput(Throughput::Elements(16));
    group.bench_function("batch of 16", |b| {
        b.iter(|| runtime.block_on(store.batch(batch(take(16), 16))).unwrap());
    });
    group.throughput(Throughput::Elements(64 * 4));
    group.bench_function("put by 64 tasks", |b| {
        b.iter(|| runtime.block_on(concurrent(store, 64, 4)));
    });
    group.throughput(Throughput::Elements(1));
    let key = item(7).key;
    group.bench_function("get", |b| b.iter(|| runtime.block_on(store.get(&key)).unwrap()));
    let range = KeyRange::from(&Prefix::from_segments(["bench"]).unwrap());
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("range of 1,000", |b| {
        b.iter(|| runtime.block_on(store.range(&range, KEYS, None)).unwrap());
    });
    group.finish();
}

/// Runs a second for a rate.
fn rate(elements: usize, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut runs = 0;
    while start.elapsed() < Duration::from_millis(500) {
        work();
        runs += 1;
    }
    (runs * elements) as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let sqlite: Arc<dyn Backend> = Arc::new(
        runtime
            .block_on(Sqlite::open(SqliteOptions::new(dir.path().join("data/state.db"))))
            .unwrap(),
    );
    let memory: Arc<dyn Backend> = {
        let _inside = runtime.enter();
        Arc::new(Memory::new(MemoryOptions::default()))
    };
    for store in [&sqlite, &memory] {
        for first in (0..KEYS).step_by(100) {
            runtime.block_on(store.batch(batch(first, 100))).unwrap();
        }
    }
    let mut criterion = Criterion::default().configure_from_args();
    with_criterion(&mut criterion, &runtime, "sqlite", &sqlite);
    with_criterion(&mut criterion, &runtime, "memory", &memory);
    criterion.final_summary();

    let mut file = File::create(dir.path().join("raw")).unwrap();
    // What one commit of one row appends to the log: about three pages of 4 KiB.
    let pages = vec![b'x'; 3 * 4096];
    let mut rows: Vec<(f64, f64, f64, f64, f64)> = (0..7)
        .map(|round| {
            let raw = rate(1, || {
                file.write_all(&pages).unwrap();
                file.sync_data().unwrap();
            });
            let mut next = round * 10_000;
            let single = rate(1, || {
                next += 1;
                runtime.block_on(sqlite.put(item(next))).unwrap();
            });
            let batches = rate(16, || {
                next += 16;
                runtime.block_on(sqlite.batch(batch(next, 16))).unwrap();
            });
            let group = rate(64 * 16, || runtime.block_on(concurrent(&sqlite, 64, 16)));
            let memory = rate(1000, || {
                runtime.block_on(async {
                    for i in 0..1000 {
                        memory.put(item(i)).await.unwrap();
                    }
                });
            });
            (raw, single, batches, group, memory)
        })
        .collect();
    rows.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    let (raw, single, batches, group, memory) = rows.get(3).copied().unwrap_or_default();
    println!("raw write and fdatasync of 12 KiB: {raw:.0}/s");
    println!("sqlite, single commits: {single:.0}/s, {:.2} of raw", single / raw);
    println!("sqlite, batches of 16: {batches:.0} rows/s");
    println!("sqlite, 64 writers at once: {group:.0} rows/s");
    println!("memory, single writes: {memory:.0}/s");
    runtime.block_on(sqlite.close()).unwrap();
}
