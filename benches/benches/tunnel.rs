//! The tunnel beside a plain TLS copy, yamux and h2, all over one TLS connection on loopback.
//!
//! Prints ratios: the machine may be shared, so only figures of one run compare. The contenders
//! take turns, and the median of the rounds counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs
)]

#[path = "tunnel/peers.rs"]
mod peers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use access_tunnel::{Config, Flavour, OpenHeader, Tunnel};
use peers::{Io, Peer, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BULK: usize = 384 * 1024 * 1024;
const ROUNDS: usize = 5;
/// What is written; shared, so that the cache is the multiplexer's and not the bench's.
static SOURCE: [u8; 64 * 1024] = [7; 64 * 1024];
const PINGS: usize = 1000;
const BULK_STREAMS: usize = 4;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    runtime.block_on(async {
        let tls = Tls::new();
        if only.is_empty() || only == "bulk" {
            bulk_table(&tls).await;
        }
        if only == "profile" {
            for n in [1, 32] {
                println!("Ours x{n}: {:?}", bulk(&tls, Peer::Ours, n).await);
            }
        }
        if only.is_empty() || only == "rtt" {
            rtt_table(&tls).await;
        }
        if only.is_empty() || only == "memory" {
            memory_table(&tls).await;
        }
    });
}

async fn bulk_table(tls: &Tls) {
    let contenders = [
        (Peer::Tls, 1),
        (Peer::Ours, 1),
        (Peer::Ours, 32),
        (Peer::Yamux, 1),
        (Peer::Yamux, 32),
        (Peer::H2, 1),
        (Peer::H2, 32),
    ];
    let mut rates = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (rates, (peer, n)) in rates.iter_mut().zip(contenders) {
            rates.push(bulk(tls, peer, n).await);
        }
    }
    let median_of = |i: usize, f: fn(&(f64, f64)) -> f64| {
        median(&mut rates[i].iter().map(f).collect::<Vec<_>>())
    };
    let base = (median_of(0, |r| r.0), median_of(0, |r| r.1));
    println!("\nbulk, {} MiB one way           MiB/s   of TLS   by CPU time", BULK >> 20);
    for (i, (peer, n)) in contenders.into_iter().enumerate() {
        let (rate, cpu) = (median_of(i, |r| r.0), median_of(i, |r| r.1));
        let name = format!("{peer:?} x{n}");
        println!("{name:<24} {rate:>12.0} {:>8.2} {:>13.2}", rate / base.0, base.1 / cpu);
    }
}

/// MiB a second, and seconds of CPU time, which a busy neighbour disturbs less.
async fn bulk(tls: &Tls, peer: Peer, n: usize) -> (f64, f64) {
    let pairs = peer.pairs(tls, n).await;
    let each = BULK / n;
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut tasks = Vec::new();
    for (writer, reader) in pairs.streams {
        tasks.push(tokio::spawn(write_bytes(writer, each)));
        tasks.push(tokio::spawn(read_bytes(reader, each)));
    }
    // Streams are kept until all are through, so that nobody's teardown is measured.
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await.unwrap());
    }
    (BULK as f64 / (1 << 20) as f64 / start.elapsed().as_secs_f64(), cpu_time() - cpu)
}

async fn write_bytes(mut stream: Box<dyn Io>, mut left: usize) -> Box<dyn Io> {
    while left > 0 {
        let n = left.min(SOURCE.len());
        stream.write_all(&SOURCE[..n]).await.unwrap();
        left -= n;
    }
    stream.flush().await.unwrap();
    stream
}

async fn read_bytes(mut stream: Box<dyn Io>, mut left: usize) -> Box<dyn Io> {
    let mut buf = vec![0; 16 * 1024];
    while left > 0 {
        left -= match stream.read(&mut buf).await.unwrap() {
            0 => panic!("{left} bytes missing"),
            n => n,
        };
    }
    stream
}

async fn rtt_table(tls: &Tls) {
    println!("\n64-byte round trip, µs             p50        p99");
    for peer in [Peer::Tls, Peer::Ours, Peer::Yamux, Peer::H2] {
        let (p50, p99) = rtt(tls, peer, 0).await;
        println!("{:<24} {p50:>12.0} {p99:>10.0}", format!("{peer:?} idle"));
    }
    let mut h2 = f64::NAN;
    for peer in [Peer::H2, Peer::Ours, Peer::Yamux] {
        let mut rounds = Vec::new();
        for _ in 0..3 {
            rounds.push(rtt(tls, peer, BULK_STREAMS).await);
        }
        let p50 = median(&mut rounds.iter().map(|r| r.0).collect::<Vec<_>>());
        let p99 = median(&mut rounds.iter().map(|r| r.1).collect::<Vec<_>>());
        if peer == Peer::H2 {
            h2 = p99;
        }
        let name = format!("{peer:?} under bulk");
        println!("{name:<24} {p50:>12.0} {p99:>10.0}   p99 {:.2} of h2", p99 / h2);
    }
}

/// Median and 99th percentile of the round trip while `bulk` streams write as fast as they can.
async fn rtt(tls: &Tls, peer: Peer, bulk: usize) -> (f64, f64) {
    let mut pairs = peer.pairs(tls, bulk + 1).await;
    let (mut ours, mut theirs) = pairs.streams.pop().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    for (mut writer, mut reader) in pairs.streams {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            let buf = vec![7; 64 * 1024];
            while !stop.load(Ordering::Relaxed) && writer.write_all(&buf).await.is_ok() {}
        });
        tokio::spawn(async move {
            let mut buf = vec![0; 64 * 1024];
            while matches!(reader.read(&mut buf).await, Ok(n) if n > 0) {}
        });
    }
    let echo = tokio::spawn(async move {
        let mut buf = [0; 64];
        while theirs.read_exact(&mut buf).await.is_ok() {
            theirs.write_all(&buf).await.unwrap();
            theirs.flush().await.unwrap();
        }
    });
    if bulk > 0 {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let mut times = Vec::with_capacity(PINGS);
    let mut buf = [1; 64];
    for _ in 0..PINGS {
        let start = Instant::now();
        ours.write_all(&buf).await.unwrap();
        ours.flush().await.unwrap();
        ours.read_exact(&mut buf).await.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    stop.store(true, Ordering::Relaxed);
    drop(ours);
    echo.abort();
    times.sort_by(f64::total_cmp);
    (times[PINGS / 2], times[PINGS * 99 / 100])
}

/// Resident memory, since an allocator that counts would need unsafe code. Many tunnels and
/// streams make the rounding of pages small; kernel memory of the sockets is not in it.
async fn memory_table(tls: &Tls) {
    const TUNNELS: usize = 200;
    const STREAMS: usize = 4000;
    let mut keep = Vec::new();
    // The first ones pay for what is allocated once.
    for _ in 0..5 {
        keep.push(Peer::Ours.pairs(tls, 1).await);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let before = resident();
    for _ in 0..TUNNELS {
        keep.push(Peer::Ours.pairs(tls, 1).await);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let tunnel = (resident() - before) as f64 / TUNNELS as f64 / 2.0 / 1024.0;
    let (client, server) = tls.pair().await;
    let (handle, _, driver) = Tunnel::client(client, Config::opener());
    tokio::spawn(driver);
    let (_, mut incoming, driver) = Tunnel::server(server, Config::new());
    tokio::spawn(driver);
    let mut streams = Vec::with_capacity(STREAMS);
    let before = resident();
    for _ in 0..STREAMS {
        let header = OpenHeader::new("node/bench", Flavour::Raw);
        let (ours, theirs) = tokio::join!(handle.open(header), async {
            incoming.next().await.unwrap().accept().unwrap()
        });
        let (mut ours, mut theirs) = (ours.unwrap(), theirs);
        // Used once each way, then idle.
        let mut buf = [0; 64];
        ours.write_all(&[1; 64]).await.unwrap();
        theirs.read_exact(&mut buf).await.unwrap();
        theirs.write_all(&[1; 64]).await.unwrap();
        ours.read_exact(&mut buf).await.unwrap();
        streams.push((ours, theirs));
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let stream = (resident() - before) as f64 / STREAMS as f64 / 2.0 / 1024.0;
    println!("\nidle memory of one end, KiB");
    println!("tunnel over TLS with one stream {tunnel:>8.1}");
    println!("stream                          {stream:>8.2}");
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Seconds that this process has spent, from the nanoseconds of its threads' schedstat.
fn cpu_time() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let spent = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    });
    spent.sum::<f64>() / 1e9
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
