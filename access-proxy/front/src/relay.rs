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
use tokio_util::io::poll_read_buf;

/// The least and the most that is read from the client at once.
const READ_LEAST: usize = 2 * 1024;
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

/// Relays until both sides have ended, or one broke, and gives the client's socket back: what was
/// written to it last may be on its way. `first` was read from the client before.
pub(crate) async fn relay(
    tcp: TcpStream,
    stream: Stream,
    first: Bytes,
) -> (Passed, io::Result<()>, TcpStream) {
    let mut relay = Relay::new(tcp, stream, first);
    let result = std::future::poll_fn(|cx| relay.poll(cx)).await;
    (relay.passed, result, relay.tcp)
}

struct Relay {
    tcp: TcpStream,
    stream: Stream,
    up: Half,
    down: Down,
    spare: BytesMut,
    /// How much to read at once.
    chunk: usize,
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
    fn new(tcp: TcpStream, stream: Stream, first: Bytes) -> Self {
        Self {
            tcp,
            stream,
            up: Half { pending: first, state: State::Open },
            down: Down::default(),
            spare: BytesMut::new(),
            chunk: READ_LEAST,
            passed: Passed::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let up = self.poll_up(cx)?;
        let down = self.poll_down(cx)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.up.pending.is_empty() {
                let before = self.up.pending.len();
                if ready!(self.stream.poll_write_chunk(cx, &mut self.up.pending)).is_err() {
                    // Who takes no more may have said why, and that is still to go down.
                    self.up.pending = Bytes::new();
                    self.up.state = State::Done;
                    break;
                }
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
        let mut read = Poll::Pending;
        let mut room = 0;
        if self.tcp.poll_read_ready(cx)?.is_ready() {
            self.spare.reserve(self.chunk);
            room = self.spare.capacity() - self.spare.len();
            // Unlike `try_read_buf` it knows after a short read that there is no more for now.
            read = poll_read_buf(Pin::new(&mut self.tcp), cx, &mut self.spare)?;
        }
        let Poll::Ready(n @ 1..) = read else {
            (self.spare, self.chunk) = (BytesMut::new(), READ_LEAST);
            return read.map(|_| Ok(None));
        };
        if n == room {
            self.chunk = (self.chunk * 8).min(READ);
        }
        Poll::Ready(Ok(Some(self.spare.split_to(n).freeze())))
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

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the client's side of the socket is dialled here")]
mod tests {
    use std::future::{Future, poll_fn};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use access_tunnel::{
        CloseCode, CloseReason, Config, Error, Flavour, Handle, Incoming, OpenHeader, ResetCode,
        Tunnel,
    };
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    /// More than all buffers between the two ends hold together.
    const LOTS: usize = 32 * 1024 * 1024;
    /// What sockets, windows, queues and the relay hold in one direction at most.
    const IN_FLIGHT: usize = 4 * 1024 * 1024;
    /// How long an end that nobody reads from has to get further than it may.
    const A_WHILE: Duration = Duration::from_millis(300);
    const DEADLINE: Duration = Duration::from_secs(20);

    /// A client, the relay between, and the agent's end of the stream.
    struct Ends {
        client: TcpStream,
        agent: Stream,
        relay: JoinHandle<Relayed>,
        /// Both ends of the tunnel, the agent's first: without them it ends with its last stream.
        tunnel: (Handle, Handle, Incoming),
    }

    struct Relayed {
        passed: Passed,
        result: io::Result<()>,
        /// The most that the relay itself held, towards the agent and towards the client.
        held: (usize, usize),
    }

    async fn in_time<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(DEADLINE, future).await.expect("it takes too long")
    }

    async fn ends(first: &'static [u8]) -> Ends {
        let mut config = Config::new();
        (config.initial_window, config.max_window) = (64 * 1024, 64 * 1024);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (proxys, _, driver) = Tunnel::server(near, config.clone());
        tokio::spawn(driver);
        let (agents, mut incoming, driver) = Tunnel::client(far, config);
        tokio::spawn(driver);
        let (stream, agent) =
            tokio::join!(proxys.open(OpenHeader::new("node/web-1", Flavour::Tls)), async {
                incoming.next().await.unwrap().accept().unwrap()
            });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (client, (tcp, _)) = (client.unwrap(), accepted.unwrap());
        for socket in [SockRef::from(&client), SockRef::from(&tcp)] {
            socket.set_recv_buffer_size(128 * 1024).unwrap();
            socket.set_send_buffer_size(128 * 1024).unwrap();
        }
        let mut relay = Relay::new(tcp, stream.unwrap(), Bytes::from_static(first));
        let relay = tokio::spawn(async move {
            let mut held = (0, 0);
            let result = poll_fn(|cx| {
                let polled = relay.poll(cx);
                held.0 = held.0.max(relay.up.pending.len());
                held.1 = held.1.max(relay.down.pending.iter().map(Bytes::len).sum());
                polled
            })
            .await;
            Relayed { passed: relay.passed, result, held }
        });
        Ends { client, agent, relay, tunnel: (agents, proxys, incoming) }
    }

    /// Bytes of which each tells its place.
    fn pattern(len: usize) -> Bytes {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[tokio::test]
    async fn a_client_that_has_said_all_still_gets_its_answer() {
        let Ends { mut client, mut agent, relay, tunnel: _tunnel } = ends(b"read before, ").await;
        in_time(client.write_all(b"ask")).await.unwrap();
        in_time(client.shutdown()).await.unwrap();
        let mut asked = Vec::new();
        in_time(agent.read_to_end(&mut asked)).await.unwrap();
        assert_eq!(asked, b"read before, ask");
        assert!(!relay.is_finished());
        in_time(agent.write_all(b"answer")).await.unwrap();
        in_time(agent.shutdown()).await.unwrap();
        let mut answer = Vec::new();
        in_time(client.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer, b"answer");
        let Relayed { passed, result, .. } = in_time(relay).await.unwrap();
        result.unwrap();
        assert_eq!((passed.up, passed.down), (16, 6));
    }

    #[tokio::test]
    async fn an_agent_that_has_said_all_still_hears_the_client() {
        let Ends { mut client, mut agent, relay, tunnel: _tunnel } = ends(b"").await;
        in_time(agent.write_all(b"greeting")).await.unwrap();
        in_time(agent.shutdown()).await.unwrap();
        let mut greeting = Vec::new();
        in_time(client.read_to_end(&mut greeting)).await.unwrap();
        assert_eq!(greeting, b"greeting");
        assert!(!relay.is_finished());
        in_time(client.write_all(b"goodbye")).await.unwrap();
        in_time(client.shutdown()).await.unwrap();
        let mut goodbye = Vec::new();
        in_time(agent.read_to_end(&mut goodbye)).await.unwrap();
        assert_eq!(goodbye, b"goodbye");
        let Relayed { passed, result, .. } = in_time(relay).await.unwrap();
        result.unwrap();
        assert_eq!((passed.up, passed.down), (7, 8));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_the_agent_back() {
        let Ends { mut client, mut agent, relay, tunnel: _tunnel } = ends(b"").await;
        let written = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&written);
        let mut writing = tokio::spawn(async move {
            let mut rest = pattern(LOTS);
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(10_000));
                let len = piece.len();
                agent.write_chunk(piece).await.unwrap();
                counted.fetch_add(len, Ordering::SeqCst);
            }
            agent.shutdown().await.unwrap();
            agent
        });
        assert!(tokio::time::timeout(A_WHILE, &mut writing).await.is_err());
        let mut got = Vec::with_capacity(LOTS);
        while got.len() < LOTS {
            let in_flight = written.load(Ordering::SeqCst).saturating_sub(got.len());
            assert!(in_flight < IN_FLIGHT, "{in_flight}");
            assert!(in_time(client.read_buf(&mut got)).await.unwrap() > 0);
        }
        assert!(got == pattern(LOTS));
        client.shutdown().await.unwrap();
        in_time(writing).await.unwrap();
        let Relayed { passed, result, held } = in_time(relay).await.unwrap();
        result.unwrap();
        assert_eq!(passed.down, LOTS as u64);
        assert!(held.1 <= GATHER + Config::new().max_frame, "{held:?}");
    }

    #[tokio::test]
    async fn an_agent_that_does_not_read_holds_the_client_back() {
        let Ends { mut client, mut agent, relay, tunnel: _tunnel } = ends(b"").await;
        let mut writing = tokio::spawn(async move {
            client.write_all(&pattern(LOTS)).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        assert!(tokio::time::timeout(A_WHILE, &mut writing).await.is_err());
        let mut got = Vec::with_capacity(LOTS);
        in_time(agent.read_to_end(&mut got)).await.unwrap();
        assert!(got == pattern(LOTS));
        in_time(writing).await.unwrap();
        in_time(agent.shutdown()).await.unwrap();
        let Relayed { passed, result, held } = in_time(relay).await.unwrap();
        result.unwrap();
        assert_eq!(passed.up, LOTS as u64);
        assert!(held.0 <= READ * 2, "{held:?}");
    }

    #[tokio::test]
    async fn what_the_agent_resets_ends_for_the_client() {
        let Ends { mut client, mut agent, relay, tunnel: _tunnel } = ends(b"").await;
        in_time(agent.write_all(b"so far")).await.unwrap();
        let mut got = [0; 6];
        in_time(client.read_exact(&mut got)).await.unwrap();
        agent.reset(ResetCode::CANCELLED);
        let Relayed { passed, result, .. } = in_time(relay).await.unwrap();
        let err = result.unwrap_err();
        let cause = err.get_ref().and_then(|err| err.downcast_ref());
        assert_eq!(cause, Some(&Error::Reset(ResetCode::CANCELLED)));
        assert_eq!(passed.down, 6);
        // By an end or by a reset: there is nothing more.
        assert!(matches!(in_time(client.read(&mut got)).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_tunnel_that_is_lost_ends_what_runs_through_it() {
        let Ends { mut client, tunnel, relay, agent: _agent } = ends(b"").await;
        tunnel.0.close(CloseCode::NORMAL);
        let err = in_time(relay).await.unwrap().result.unwrap_err();
        let cause = err.get_ref().and_then(|err| err.downcast_ref());
        assert!(matches!(cause, Some(Error::Closed(CloseReason::Remote { .. }))), "{cause:?}");
        assert!(matches!(in_time(client.read(&mut [0; 8])).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_client_that_breaks_off_has_not_ended_in_good_order() {
        let Ends { mut client, mut agent, relay, tunnel: _tunnel } = ends(b"").await;
        in_time(client.write_all(b"half a requ")).await.unwrap();
        let mut got = [0; 11];
        in_time(agent.read_exact(&mut got)).await.unwrap();
        // Closed so, a socket sends RST.
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let Relayed { passed, result, .. } = in_time(relay).await.unwrap();
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(passed.up, 11);
        // Not an end, which the agent would take for the whole of a request.
        let err = in_time(agent.read_chunk()).await.unwrap_err();
        assert_eq!(err, Error::Reset(ResetCode::CANCELLED));
    }
}
