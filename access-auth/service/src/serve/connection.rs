//! A connection as tonic takes it: bytes, and who is at the other end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use access_core::reach::{BoxedStream, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::Connected;

use super::tls::Admission;
use crate::caller::Peer;

/// One accepted connection.
pub(crate) struct Connection {
    stream: BoxedStream,
    peer: Peer,
    /// Wakes the connection of a stranger when it may have been quiet for too long.
    quiet: Option<Pin<Box<Sleep>>>,
    /// What is given back or told when it ends.
    until_end: UntilEnd,
}

/// What a connection holds until it ends.
#[derive(Default)]
struct UntilEnd {
    /// Its place among those that may be open.
    admission: Option<Admission>,
    /// Tells whoever waits for the end.
    ended: Option<DropGuard>,
}

impl Connection {
    pub(crate) fn new(stream: impl Stream, peer: Peer) -> Self {
        let visit = peer.visit().filter(|_| peer.is_stranger());
        let quiet = visit.map(|visit| Box::pin(tokio::time::sleep_until(visit.ends_at())));
        Self { stream: Box::new(stream), peer, quiet, until_end: UntilEnd::default() }
    }

    /// Whether a stranger has not called for too long: bytes alone, such as answers to pings of
    /// HTTP/2, keep nothing open.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(quiet), Some(visit)) = (&mut self.quiet, self.peer.visit()) else {
            return Poll::Pending;
        };
        while quiet.as_mut().poll(cx).is_ready() {
            let ends_at = visit.ends_at();
            if ends_at <= Instant::now() {
                return Poll::Ready(());
            }
            quiet.as_mut().reset(ends_at);
        }
        Poll::Pending
    }

    /// Of the administrator of this host.
    pub(crate) fn local(stream: impl Stream) -> Self {
        Self::new(stream, Peer::local())
    }

    /// The same, holding a place until it ends.
    pub(super) fn holding(mut self, admission: Admission) -> Self {
        self.until_end.admission = Some(admission);
        self
    }

    /// The same, cancelling a token when it ends.
    pub(super) fn telling(mut self, ended: CancellationToken) -> Self {
        self.until_end.ended = Some(ended.drop_guard());
        self
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poll_quiet(cx).is_ready() {
            // As if the client had ended it.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Limits;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_stranger_who_does_not_call_is_sent_away() {
        let limits = Limits::default();
        let peer = Peer::stranger(None, &limits);
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut connection = Connection::new(ours, peer.clone());
        let started = Instant::now();
        let mut byte = [0];
        let place = peer.visit().unwrap().place();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(place);
            // Bytes are no call.
            while theirs.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(7)).await;
            }
        });
        while connection.read(&mut byte).await.unwrap() > 0 {}
        assert_eq!(started.elapsed().as_secs(), 100 + limits.stranger_quiet.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn the_administrator_may_be_quiet() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let mut connection = Connection::local(ours);
        let mut byte = [0];
        let read = connection.read(&mut byte);
        assert!(tokio::time::timeout(Duration::from_secs(3600), read).await.is_err());
    }
}
