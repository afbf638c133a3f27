//! A copier of bytes on the way to a server that cuts connections off.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Copies until it is dropped.
pub struct Cutter {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: u16,
    stopped: AtomicBool,
    /// Nobody gets through.
    closed: AtomicBool,
    seed: AtomicU64,
    pub cuts: AtomicU64,
    /// Bytes that a connection carries before it is cut: at least, and how many more at most.
    allowance: Mutex<Option<(u64, u64)>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Cutter {
    /// One that cuts nothing yet.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target,
            stopped: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            seed: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
            cuts: AtomicU64::new(0),
            allowance: Mutex::default(),
            open: Mutex::default(),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                if accepting.closed.load(Ordering::SeqCst) {
                    continue;
                }
                accepting.clone().carry(client);
            }
        });
        Self { port, shared }
    }

    /// From now on each new connection carries so many bytes and then no more.
    pub fn allow(&self, least: u64, more: u64) {
        *self.shared.allowance.lock().unwrap() = Some((least, more));
    }

    /// From now on connections last.
    pub fn allow_all(&self) {
        *self.shared.allowance.lock().unwrap() = None;
    }

    /// Cuts off every connection that is open.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets nobody through until it is called with `false`.
    pub fn close(&self, closed: bool) {
        self.shared.closed.store(closed, Ordering::SeqCst);
        if closed {
            self.cut();
        }
    }

    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the one that accepts.
        #[allow(clippy::disallowed_methods, reason = "a test talks to itself")]
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn carry(self: Arc<Self>, client: TcpStream) {
        #[allow(clippy::disallowed_methods, reason = "a test's own server")]
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target)) else { return };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
            let mut open = self.open.lock().unwrap();
            open.push(stream.try_clone().unwrap());
            // Those that have ended are of no use any more.
            let start = open.len().saturating_sub(400);
            open.drain(..start);
        }
        let allowance =
            self.allowance.lock().unwrap().map(|(least, more)| least + self.below(more));
        let left = Arc::new(AtomicU64::new(allowance.unwrap_or(u64::MAX)));
        let ways = [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
        for (from, to) in ways {
            let (shared, left) = (self.clone(), left.clone());
            thread::spawn(move || shared.copy(from, to, &left));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, left: &AtomicU64) {
        let mut buffer = [0; 8192];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let before =
                left.fetch_sub((len as u64).min(left.load(Ordering::SeqCst)), Ordering::SeqCst);
            let part = len.min(usize::try_from(before).unwrap_or(usize::MAX));
            if to.write_all(&buffer[..part]).is_err() {
                break;
            }
            if part < len {
                self.cuts.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn below(&self, bound: u64) -> u64 {
        let mut x = self.seed.load(Ordering::SeqCst);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.seed.store(x, Ordering::SeqCst);
        (x >> 11) % bound.max(1)
    }
}
