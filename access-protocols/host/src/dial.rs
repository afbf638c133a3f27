//! Dialling TCP: the one file that does.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::sys::set_longest_wait;

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// How often a target that says nothing is asked whether it is there, before it is taken for gone.
const ASKED: u32 = 3;

/// How often the kernel repeats what is not acknowledged before it gives a connection up, unless
/// the administrator chose otherwise (`net.ipv4.tcp_retries2`).
const REPEATED: u32 = 15;

/// What the kernel can be told to wait at most before it repeats something.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(120);

/// How long a target may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until it is connected to, resolving its name included.
    pub(crate) dial: Duration,
    /// Until it is taken for gone, when nothing comes and its host does not answer. Within half of
    /// it nobody asks.
    pub(crate) silence: Duration,
}

/// Resolves a host and connects to the first of its addresses that answers.
///
/// All of it together takes `patience.dial` at most; an address that does not answer is given an
/// even share of what is left, so that a dead first one does not use up the time of the second.
///
/// # Errors
/// What came of the last address; [`io::ErrorKind::TimedOut`] past the deadline.
pub(crate) async fn connect(host: &str, port: u16, patience: Patience) -> io::Result<TcpStream> {
    let until = Instant::now() + patience.dial;
    let found =
        timeout_at(until, tokio::net::lookup_host((unbracketed(host), port))).await.map_err(
            |_| io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time"),
        )??;
    let addresses: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut left = addresses.len();
    for address in addresses {
        let share = until.saturating_duration_since(Instant::now())
            / u32::try_from(left).unwrap_or(u32::MAX).max(1);
        left = left.saturating_sub(1);
        match timeout(share, connect_to(address)).await {
            Ok(Ok(stream)) => {
                // Interactive protocols run over these; a failure here costs only latency.
                let _ = stream.set_nodelay(true);
                if let Err(err) = ask_when_silent(&stream, patience.silence) {
                    tracing::debug!(%err, "a target that vanishes will not be noticed");
                }
                if let Err(err) = repeat_often(&stream, patience.silence) {
                    tracing::debug!(%err, "a target that vanishes while something is on its way \
                        there is given up when the kernel does, after some fifteen minutes");
                }
                return Ok(stream);
            }
            Ok(Err(err)) => last = err,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        }
    }
    Err(last)
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that dials: its callers hold a permit, or a probe"
)]
async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}

/// Has the kernel ask a host from which nothing comes whether it is there.
fn ask_when_silent(stream: &TcpStream, silence: Duration) -> nix::Result<()> {
    let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX).max(1);
    setsockopt(stream, sockopt::TcpKeepIdle, &seconds(silence / 2))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &seconds(silence / (2 * ASKED)))?;
    setsockopt(stream, sockopt::TcpKeepCount, &ASKED)?;
    setsockopt(stream, sockopt::KeepAlive, &true)
}

/// Has the kernel give a host up in time that does not acknowledge what it is sent: it asks nothing
/// then, but repeats that a fixed number of times, and waits for longer each time up to two minutes.
///
/// There is no `TCP_USER_TIMEOUT`: it would also cut connections to hosts that answer and whose
/// programs take their time to read, such as a database in the middle of a COPY that waits for a
/// lock.
fn repeat_often(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    let wait = (silence / REPEATED).clamp(SHORTEST, LONGEST).as_millis();
    set_longest_wait(stream, i32::try_from(wait).unwrap_or(i32::MAX))
}

/// `ssh -L 1:[::1]:80` sends the address with or without its brackets.
fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    const PATIENCE: Patience =
        Patience { dial: Duration::from_secs(5), silence: Duration::from_secs(60) };

    #[tokio::test]
    async fn a_name_and_an_address_lead_to_the_listener() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let stream = connect(host, port, PATIENCE).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
            assert!(stream.nodelay().unwrap());
            assert!(getsockopt(&stream, sockopt::KeepAlive).unwrap());
            assert_eq!(getsockopt(&stream, sockopt::TcpKeepIdle).unwrap(), 30);
            assert_eq!(getsockopt(&stream, sockopt::TcpKeepInterval).unwrap(), 10);
        }
        assert_eq!(unbracketed("[::1]"), "::1");
    }

    #[tokio::test]
    async fn nobody_listening_is_an_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let err = connect("127.0.0.1", port, PATIENCE).await.unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::ConnectionRefused);
    }
}
