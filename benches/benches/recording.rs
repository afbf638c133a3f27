//! How fast sessions are recorded: encoding, compression, checksums and chain.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark: it prints its result, and has nobody to hand an error to"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use access_core::recording::{RecordingKind, RecordingMeta, RecordingReader, RecordingWriter};
use access_core::{SessionId, Timestamp, UserName};
use criterion::{Criterion, Throughput};

/// As much as a relay reads at once.
const PIECE: usize = 32 * 1024;
const SIZE: usize = 16 * 1024 * 1024;

fn start() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

/// Output of a terminal: lines of a log, in colour.
fn text() -> Vec<u8> {
    let mut text = Vec::with_capacity(SIZE + 200);
    let mut i = 0_u64;
    while text.len() < SIZE {
        i = i.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let line = format!(
            "\x1b[32m2026-01-02T03:04:05.{:03}Z\x1b[0m INFO request id={:016x} took={}ms\r\n",
            i % 1000,
            i,
            (i >> 20) % 500
        );
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(SIZE);
    text
}

/// What does not compress.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..SIZE / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect()
}

/// Records everything, and gives the recording.
fn record(data: &[u8]) -> Vec<u8> {
    let user = UserName::new("alice").unwrap();
    let session = SessionId::new("s-1").unwrap();
    let meta = RecordingMeta::new(session, RecordingKind::Ssh, user, "node/web-1", start());
    let mut writer = RecordingWriter::new(&meta).unwrap();
    let mut file = Vec::new();
    for (i, piece) in data.chunks(PIECE).enumerate() {
        writer.output(start().plus(Duration::from_millis(i as u64)), piece);
        if writer.pending() > 1024 * 1024 {
            file.extend_from_slice(&writer.take());
        }
    }
    writer.seal();
    file.extend_from_slice(&writer.take());
    file
}

fn read(file: &[u8]) -> usize {
    let mut reader = RecordingReader::trusting_nobody();
    reader.push(file);
    std::iter::from_fn(|| reader.next_event()).count()
}

fn main() {
    let kinds = [("text", text()), ("zeros", vec![0; SIZE]), ("noise", noise())];
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("recording");
    group.sample_size(20).throughput(Throughput::Bytes(SIZE as u64));
    for (name, data) in &kinds {
        group.bench_function(format!("write {name}"), |b| b.iter(|| record(black_box(data))));
        let file = record(data);
        group.bench_function(format!("read {name}"), |b| b.iter(|| read(black_box(&file))));
    }
    group.finish();
    criterion.final_summary();

    for (name, data) in &kinds {
        let mut times: Vec<Duration> = (0..9)
            .map(|_| {
                let start = Instant::now();
                black_box(record(data));
                start.elapsed()
            })
            .collect();
        times.sort();
        let median = times.get(4).copied().unwrap_or_default().as_secs_f64();
        let file = record(data);
        assert!(read(&file) > 0);
        println!(
            "recording {name}: {:.0} MiB/s, to {:.3} of its size",
            SIZE as f64 / median / 1024.0 / 1024.0,
            file.len() as f64 / SIZE as f64
        );
    }
}
