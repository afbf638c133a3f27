//! Bytes between a client's socket and a stream of a tunnel: no copy on the way to the client,
//! and no buffer while nothing passes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use access_tunnel::Stream;
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// The most that is read from the client at once.
const READ: usize = 64 * 1024;

/// The most chunks of a tunnel, and about the most bytes, that are written to the client at once.
const GATHER_CHUNKS: usize = 16;
const GATHER: usize = 128 * 1024;

/// What passed, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    /// From the client.
    pub(crate) up: u64,
    /// To the client.
    pub(crate) down: u64,
}

/// Relays until both sides have ended, or one broke. `first` was read from the client before.
pub(crate) async fn relay(
    tcp: TcpStream,
    stream: Stream,
    first: Bytes,
) -> (Passed, io::Result<()>) {
    let mut relay = Relay {
        tcp,
        stream,
        up: Half { pending: first, state: State::Open },
        down: Down::default(),
        spare: BytesMut::new(),
        passed: Passed::default(),
    };
    let result = std::future::poll_fn(|cx| relay.poll(cx)).await;
    (relay.passed, result)
}

struct Relay {
    tcp: TcpStream,
    stream: Stream,
    up: Half,
    down: Down,
    spare: BytesMut,
    passed: Passed,
}

#[derive(Default)]
struct Half {
    /// Read and not yet written.
    pending: Bytes,
    state: State,
}

#[derive(Default)]
struct Down {
    /// Read and not yet written. A chunk is no more than a frame, and each write is a call of the
    /// system: several are written together.
    pending: VecDeque<Bytes>,
    /// How much that is.
    bytes: usize,
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The reader is at its end; the writer must be told.
    Ending,
    Done,
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let up = self.poll_up(cx)?;
        let down = self.poll_down(cx)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.up.pending.is_empty() {
                let before = self.up.pending.len();
                ready!(self.stream.poll_write_chunk(cx, &mut self.up.pending))
                    .map_err(io::Error::other)?;
                self.passed.up += (before - self.up.pending.len()) as u64;
            }
            match self.up.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                    self.up.state = State::Done;
                }
                State::Open => match ready!(self.poll_client(cx))? {
                    Some(bytes) => self.up.pending = bytes,
                    None => self.up.state = State::Ending,
                },
            }
        }
    }

    /// Reads from the client. A buffer is taken only once there is something to read.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            self.spare.reserve(READ);
            match self.tcp.try_read_buf(&mut self.spare) {
                Ok(0) => {
                    self.spare = BytesMut::new();
                    return Poll::Ready(Ok(None));
                }
                Ok(n) => {
                    let bytes = self.spare.split_to(n).freeze();
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    self.spare = BytesMut::new();
                }
                Err(err) => return Poll::Ready(Err(err)),
            }
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.gather(cx)?;
            if !self.down.pending.is_empty() {
                let n = ready!(self.poll_write_pending(cx))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.passed.down += n as u64;
                self.down.advance(n);
                continue;
            }
            match self.down.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
                    self.down.state = State::Done;
                }
                // Registered with the stream.
                State::Open => return Poll::Pending,
            }
        }
    }

    /// Takes what the stream has, as far as it fits. Nothing pending and the stream still open
    /// means that the stream will wake us.
    fn gather(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Self { stream, down, .. } = self;
        while down.state == State::Open && down.bytes < GATHER && down.pending.len() < GATHER_CHUNKS
        {
            match stream.poll_read_chunk(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(Some(chunk))) => {
                    down.bytes += chunk.len();
                    if !chunk.is_empty() {
                        down.pending.push_back(chunk);
                    }
                }
                Poll::Ready(Ok(None)) => down.state = State::Ending,
                // It is met again once what came before it is written.
                Poll::Ready(Err(_)) if !down.pending.is_empty() => break,
                Poll::Ready(Err(err)) => return Err(io::Error::other(err)),
            }
        }
        Ok(())
    }

    fn poll_write_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); GATHER_CHUNKS];
        for (slot, chunk) in slices.iter_mut().zip(&self.down.pending) {
            *slot = IoSlice::new(chunk);
        }
        let used = self.down.pending.len().min(GATHER_CHUNKS);
        Pin::new(&mut self.tcp).poll_write_vectored(cx, slices.get(..used).unwrap_or_default())
    }
}

impl Down {
    /// Forgets what was written.
    fn advance(&mut self, mut n: usize) {
        self.bytes = self.bytes.saturating_sub(n);
        while let Some(chunk) = self.pending.front_mut() {
            if chunk.len() > n {
                bytes::Buf::advance(chunk, n);
                return;
            }
            n -= chunk.len();
            self.pending.pop_front();
        }
        // No memory while nothing passes.
        self.pending = VecDeque::new();
    }
}
