//! Bytes between a client's socket and a stream of a tunnel: no copy on the way to the client,
//! and no buffer while nothing passes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use access_tunnel::Stream;
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// The most that is read from the client at once.
const READ: usize = 64 * 1024;

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
        down: Half::default(),
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
    down: Half,
    spare: BytesMut,
    passed: Passed,
}

#[derive(Default)]
struct Half {
    /// Read and not yet written.
    pending: Bytes,
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
            while !self.down.pending.is_empty() {
                let n = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.down.pending))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.passed.down += n as u64;
                bytes::Buf::advance(&mut self.down.pending, n);
            }
            match self.down.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
                    self.down.state = State::Done;
                }
                State::Open => {
                    match ready!(self.stream.poll_read_chunk(cx)).map_err(io::Error::other)? {
                        Some(bytes) => self.down.pending = bytes,
                        None => self.down.state = State::Ending,
                    }
                }
            }
        }
    }
}
