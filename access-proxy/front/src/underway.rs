//! What is under way and not seen in the tunnels: connections that are copied to Auth, and
//! preludes. A drain waits for it.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A connection to Auth over which nothing has passed for this long is between calls. Agents keep
/// one for as long as they live: a drain cannot wait for its end, nor see into it.
const QUIET: Duration = Duration::from_secs(3);

/// The connections that a drain waits for.
#[derive(Debug)]
pub(crate) struct Underway {
    began: Instant,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Option<Pulse>>,
}

/// When something passed last, in milliseconds since the front door opened.
#[derive(Clone, Debug)]
struct Pulse {
    began: Instant,
    last: Arc<AtomicU64>,
}

/// A connection is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Passage {
    open: Arc<Mutex<Open>>,
    number: u64,
}

impl Underway {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), open: Arc::default() }
    }

    /// Counts a connection that is waited for until it ends.
    pub(crate) fn until_end(&self) -> Passage {
        self.count(None)
    }

    /// Counts a connection that is waited for while something passes over `stream`.
    pub(crate) fn while_busy<S>(&self, stream: S) -> (Passage, Watched<S>) {
        let pulse = Pulse { began: self.began, last: Arc::default() };
        pulse.beat();
        (self.count(Some(pulse.clone())), Watched { stream, pulse })
    }

    /// How many there are to wait for.
    pub(crate) fn busy(&self) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = |pulse: &&Option<Pulse>| pulse.as_ref().is_none_or(|p| p.quiet_for() < QUIET);
        open.connections.values().filter(busy).count()
    }

    fn count(&self, pulse: Option<Pulse>) -> Passage {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.next;
        open.next += 1;
        open.connections.insert(number, pulse);
        Passage { open: Arc::clone(&self.open), number }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.connections.remove(&self.number);
    }
}

impl Pulse {
    fn beat(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    fn quiet_for(&self) -> Duration {
        self.began
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// A stream that notes when something passes.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    pulse: Pulse,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.pulse.beat();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pulse.beat();
        Pin::new(&mut self.stream).poll_write(cx, buf)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn what_is_quiet_is_not_waited_for_and_what_passes_is() {
        let underway = Underway::new();
        let prelude = underway.until_end();
        let (mut far, near) = tokio::io::duplex(64);
        let (passage, mut near) = underway.while_busy(near);
        assert_eq!(underway.busy(), 2);
        tokio::time::advance(QUIET).await;
        assert_eq!(underway.busy(), 1, "the prelude may be quiet, the other is between calls");
        far.write_all(b"x").await.unwrap();
        near.read_u8().await.unwrap();
        assert_eq!(underway.busy(), 2);
        tokio::time::advance(QUIET).await;
        near.write_all(b"y").await.unwrap();
        assert_eq!(underway.busy(), 2);
        drop((prelude, passage));
        assert_eq!(underway.busy(), 0);
        assert!(underway.open.lock().unwrap().connections.is_empty());
    }
}
