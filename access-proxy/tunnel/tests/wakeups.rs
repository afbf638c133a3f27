//! Lost wake-ups: the async halves on an executor that polls only what was woken, in random
//! order, over a transport that is as contrary as its contract permits.
//!
//! No timer fires here, so nothing can be saved by one: if no task is woken and one is left, it
//! would have slept for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use access_tunnel::{Config, Flavour, OpenHeader, Stream, Tunnel};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

#[path = "support/rng.rs"]
mod rng;
use rng::Rng;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Task {
    name: String,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    woken: Arc<Flag>,
}

/// Shared by the executor, the transport and the tasks.
#[derive(Clone)]
struct World {
    rng: Arc<Mutex<Rng>>,
    /// Wakers of those who were told to wait for no reason.
    delayed: Arc<Mutex<Vec<Waker>>>,
    /// Not in every play: the wake-up after a needless wait can make up for a lost one.
    needless_waits: bool,
    spawned: Arc<Mutex<Vec<Task>>>,
}

impl World {
    fn below(&self, n: usize) -> usize {
        self.rng.lock().unwrap().below(n)
    }

    fn spawn(&self, name: impl Into<String>, future: impl Future<Output = ()> + Send + 'static) {
        self.spawned.lock().unwrap().push(Task {
            name: name.into(),
            future: Box::pin(future),
            woken: Arc::new(Flag(AtomicBool::new(true))),
        });
    }

    /// Polls woken tasks in random order until all have ended.
    fn run(&self, needless_wakes: bool, seed: u64) {
        let mut tasks: Vec<Task> = Vec::new();
        loop {
            tasks.append(&mut self.spawned.lock().unwrap());
            if tasks.is_empty() {
                return;
            }
            if needless_wakes && self.below(10) == 0 {
                let n = self.below(tasks.len());
                tasks[n].woken.0.store(true, Ordering::SeqCst);
            }
            let woken: Vec<usize> =
                (0..tasks.len()).filter(|n| tasks[*n].woken.0.load(Ordering::SeqCst)).collect();
            let delayed = {
                let mut delayed = self.delayed.lock().unwrap();
                if !delayed.is_empty() && (woken.is_empty() || self.below(4) == 0) {
                    let n = self.below(delayed.len());
                    Some(delayed.swap_remove(n))
                } else {
                    None
                }
            };
            if let Some(waker) = delayed {
                waker.wake();
                continue;
            }
            if woken.is_empty() {
                let names: Vec<_> = tasks.iter().map(|t| t.name.as_str()).collect();
                panic!("seed {seed}: these sleep for ever: {names:?}");
            }
            let n = woken[self.below(woken.len())];
            tasks[n].woken.0.store(false, Ordering::SeqCst);
            let waker = Waker::from(Arc::clone(&tasks[n].woken));
            let mut cx = Context::from_waker(&waker);
            if tasks[n].future.as_mut().poll(&mut cx).is_ready() {
                drop(tasks.swap_remove(n));
            }
        }
    }
}

#[derive(Default)]
struct Half {
    /// Written and not flushed: the other side can't see it.
    staged: VecDeque<u8>,
    flowing: VecDeque<u8>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One end of a pipe that reads and writes little at a time, waits for no reason, keeps only the
/// last waker, and holds back what is not flushed.
struct Contrary {
    world: World,
    read: Arc<Mutex<Half>>,
    write: Arc<Mutex<Half>>,
    capacity: usize,
    vectored: bool,
}

fn pipe(world: &World, capacity: usize, vectored: bool) -> (Contrary, Contrary) {
    let (x, y): (Arc<Mutex<Half>>, Arc<Mutex<Half>>) = Default::default();
    let end = |read: &Arc<_>, write: &Arc<_>| Contrary {
        world: world.clone(),
        read: Arc::clone(read),
        write: Arc::clone(write),
        capacity,
        vectored,
    };
    (end(&x, &y), end(&y, &x))
}

impl Contrary {
    fn waits(&self, cx: &Context<'_>) -> bool {
        let waits = self.world.needless_waits && self.world.below(4) == 0;
        if waits {
            self.world.delayed.lock().unwrap().push(cx.waker().clone());
        }
        waits
    }
}

impl AsyncRead for Contrary {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.waits(cx) {
            return Poll::Pending;
        }
        let mut half = self.read.lock().unwrap();
        if half.flowing.is_empty() {
            if half.closed {
                return Poll::Ready(Ok(()));
            }
            half.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = 1 + self.world.below(half.flowing.len().min(buf.remaining()));
        for byte in half.flowing.drain(..n) {
            buf.put_slice(&[byte]);
        }
        if let Some(writer) = half.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Contrary {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.waits(cx) {
            return Poll::Pending;
        }
        let mut half = self.write.lock().unwrap();
        let room = self.capacity - (half.staged.len() + half.flowing.len());
        if room == 0 {
            // As TLS does: a full buffer is pushed on its own.
            let staged = std::mem::take(&mut half.staged);
            half.flowing.extend(staged);
            half.writer = Some(cx.waker().clone());
            if let Some(reader) = half.reader.take() {
                reader.wake();
            }
            return Poll::Pending;
        }
        let n = 1 + self.world.below(room.min(buf.len()));
        half.staged.extend(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
        self.poll_write(cx, &all)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waits(cx) {
            return Poll::Pending;
        }
        let mut half = self.write.lock().unwrap();
        let staged = std::mem::take(&mut half.staged);
        half.flowing.extend(staged);
        if let Some(reader) = half.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.as_mut().poll_flush(cx).is_pending() {
            return Poll::Pending;
        }
        let mut half = self.write.lock().unwrap();
        half.closed = true;
        if let Some(reader) = half.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Contrary {
    fn drop(&mut self) {
        for half in [&self.read, &self.write] {
            let mut half = half.lock().unwrap();
            half.closed = true;
            for waker in [half.reader.take(), half.writer.take()].into_iter().flatten() {
                waker.wake();
            }
        }
    }
}

/// Reading and writing are tasks of their own, so that neither lives on the other's wake-ups.
fn talk(world: &World, name: &str, stream: Stream, send: usize, receive: usize, step: usize) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    world.spawn(format!("{name} writer"), async move {
        let bytes: Vec<u8> = (0..send).map(|at| (at * 7 + at / 253) as u8).collect();
        for part in bytes.chunks(step) {
            writer.write_all(part).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    });
    world.spawn(format!("{name} reader"), async move {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes.len(), receive);
        assert!(bytes.iter().enumerate().all(|(at, b)| *b == (at * 7 + at / 253) as u8));
    });
}

fn play(seed: u64) {
    let world = World {
        rng: Arc::new(Mutex::new(Rng(seed * 2 + 1))),
        delayed: Arc::default(),
        needless_waits: seed % 4 > 1,
        spawned: Arc::default(),
    };
    let mut config = Config::new();
    config.max_frame = 1024 + world.below(16_000);
    config.initial_window = 16 * 1024;
    config.send_buffer = 1024 + world.below(40_000);
    config.transmit_batch = 1024 + world.below(30_000);
    config.max_send_memory = 1 << (10 + world.below(16));
    let (a, b) = pipe(&world, 1 + world.below(30_000), seed.is_multiple_of(2));
    let (client, client_incoming, driver) = Tunnel::client(a, config.clone());
    world.spawn("client driver", async move {
        driver.await;
    });
    let (server, mut incoming, driver) = Tunnel::server(b, config);
    world.spawn("server driver", async move {
        driver.await;
    });
    drop((client_incoming, server));
    let streams = 1 + world.below(5);
    let plans: Vec<_> = (0..streams)
        .map(|_| (world.below(60_000), world.below(60_000), 500 + world.below(20_000)))
        .collect();
    for (n, (there, back, step)) in plans.clone().into_iter().enumerate() {
        let (client, inner) = (client.clone(), world.clone());
        world.spawn(format!("open {n}"), async move {
            let header = OpenHeader::new(n.to_string(), Flavour::Raw);
            let stream = client.open(header).await.unwrap();
            talk(&inner, &format!("client {n}"), stream, there, back, step);
        });
    }
    drop(client);
    let inner = world.clone();
    world.spawn("acceptor", async move {
        for _ in 0..streams {
            let pending = incoming.next().await.unwrap();
            let n: usize = pending.header().target.parse().unwrap();
            let (there, back, step) = plans[n];
            let stream = pending.accept().unwrap();
            talk(&inner, &format!("server {n}"), stream, back, there, step);
        }
    });
    world.run(seed.is_multiple_of(3), seed);
}

#[test]
fn nobody_sleeps_for_ever() {
    // Timers are made but never fire.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _context = runtime.enter();
    for seed in 0..150 {
        play(seed);
    }
}
