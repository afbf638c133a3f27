//! The transport under an SSH connection: counted, cut off when it must end, and held back when
//! what it carried has not been read yet.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use access_core::reach::BoxedStream;
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What waits to be read by the targets before the client's windows are made small.
pub(crate) const QUEUE_HIGH: usize = 1024 * 1024;

/// What waits to be read before nothing more is taken from the client.
///
/// Reached only by a client that disregards its windows, or whose targets write without end and
/// never read; see [`Link::window`].
const QUEUE_MAX: usize = 32 * 1024 * 1024;

/// What a channel's client may send before it hears from us, while targets keep up.
pub(crate) const WINDOW: u32 = 2 * 1024 * 1024;

/// The same, while they don't.
const WINDOW_TRICKLE: u32 = 4096;

/// What a connection's parts know of each other.
pub(crate) struct Link {
    closed: CancellationToken,
    reading: AtomicWaker,
    writing: AtomicWaker,
    queued: AtomicUsize,
    received: AtomicU64,
    sent: AtomicU64,
    opened: Instant,
    /// Milliseconds after `opened`.
    heard: AtomicU64,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            closed: CancellationToken::new(),
            reading: AtomicWaker::new(),
            writing: AtomicWaker::new(),
            queued: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            opened: Instant::now(),
            heard: AtomicU64::new(0),
        }
    }

    /// Ends the connection at once: whatever waits for the transport fails.
    pub(crate) fn cut(&self) {
        self.closed.cancel();
        self.reading.wake();
        self.writing.wake();
    }

    /// Completes when the connection is over.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// How long nothing was heard of the client although we listened.
    pub(crate) fn silence(&self) -> Duration {
        if self.queued.load(Ordering::Relaxed) >= QUEUE_MAX {
            return Duration::ZERO;
        }
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(heard)
    }

    /// How much a channel's client may have under way.
    ///
    /// The library grants a window anew as soon as the bytes have arrived, not when they were
    /// read. Were the transport held back instead as soon as a target reads slowly, the client's
    /// grants for the other direction would wait behind its data, and a target that writes before
    /// it reads on would wait for them for ever. So a slow target makes the windows small, of all
    /// channels because the library knows one size for all, and what still comes in is queued.
    pub(crate) fn window(&self) -> u32 {
        if self.queued.load(Ordering::Relaxed) > QUEUE_HIGH { WINDOW_TRICKLE } else { WINDOW }
    }

    pub(crate) fn queue(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn unqueue(&self, bytes: usize) {
        if self.queued.fetch_sub(bytes, Ordering::Relaxed) >= QUEUE_MAX {
            self.reading.wake();
        }
    }

    fn note_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        let heard = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(heard, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("queued", &self.queued)
            .field("received", &self.received)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

/// Cuts a link when it is dropped, however that comes about.
pub(crate) struct CutOnDrop(pub(crate) std::sync::Arc<Link>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// The stream that the SSH library is given.
pub(crate) struct Wire {
    stream: BoxedStream,
    link: std::sync::Arc<Link>,
}

impl Wire {
    pub(crate) fn new(stream: BoxedStream, link: std::sync::Arc<Link>) -> Self {
        Self { stream, link }
    }

    fn check(&self) -> io::Result<()> {
        if self.link.is_closed() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Registered first: a cut or a drained queue between the checks and the return wakes us.
        self.link.reading.register(cx.waker());
        self.check()?;
        if self.link.queued.load(Ordering::Relaxed) >= QUEUE_MAX {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.link.note_received(read);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.link.writing.register(cx.waker());
        self.check()?;
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(sent)) = &polled {
            self.link.sent.fetch_add(*sent as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.writing.register(cx.waker());
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.writing.register(cx.waker());
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_cut_wakes_a_reader_that_waits() {
        let (_far, near) = tokio::io::duplex(64);
        let link = Arc::new(Link::new());
        let mut wire = Wire::new(Box::new(near), Arc::clone(&link));
        let reading = tokio::spawn(async move { wire.read_u8().await });
        tokio::task::yield_now().await;
        link.cut();
        let err = reading.await.unwrap().unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn a_full_queue_holds_the_transport_back_until_it_is_drained() {
        let (mut far, near) = tokio::io::duplex(64);
        let link = Arc::new(Link::new());
        let mut wire = Wire::new(Box::new(near), Arc::clone(&link));
        link.queue(QUEUE_MAX);
        assert_eq!(link.window(), WINDOW_TRICKLE);
        far.write_all(b"x").await.unwrap();
        let reading = tokio::spawn(async move { wire.read_u8().await });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        link.unqueue(QUEUE_MAX);
        assert_eq!(reading.await.unwrap().unwrap(), b'x');
        assert_eq!(link.window(), WINDOW);
    }
}
