//! Bytes between a channel and a stream, both ways, until both have said their last.

use std::sync::atomic::{AtomicU64, Ordering};

use access_core::gate::Guarded;
use access_core::reach::BoxedStream;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::channel::{Ends, Writer};

/// What one read takes at first, and at most.
const READ_MIN: usize = 4 * 1024;
const READ_MAX: usize = 256 * 1024;

/// How many bytes went which way.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    tx: AtomicU64,
    rx: AtomicU64,
}

impl Counters {
    /// Notes bytes sent to the client.
    pub(crate) fn sent(&self, bytes: usize) {
        self.tx.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes bytes received from the client.
    pub(crate) fn received(&self, bytes: usize) {
        self.rx.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn tx(&self) -> u64 {
        self.tx.load(Ordering::Relaxed)
    }

    pub(crate) fn rx(&self) -> u64 {
        self.rx.load(Ordering::Relaxed)
    }
}

/// Reads pieces that are handed on without being copied. The buffer is small until it is filled.
pub(crate) struct Pieces<R> {
    from: R,
    buffer: BytesMut,
    want: usize,
}

impl<R: AsyncRead + Unpin> Pieces<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::new(), want: READ_MIN }
    }

    /// The next piece; `None` at the end. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        if self.buffer.capacity() < self.want / 4 {
            self.buffer.reserve(self.want);
        }
        let room = self.buffer.capacity();
        let read = self.from.read_buf(&mut self.buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        if read >= room / 2 {
            self.want = (self.want * 4).min(READ_MAX);
        }
        Ok(Some(self.buffer.split().freeze()))
    }
}

/// Copies until both directions have ended, either breaks, or the client closes the channel.
/// `touch` is called whenever something passes.
pub(crate) async fn copy(
    stream: Guarded<BoxedStream>,
    writer: &Writer,
    ends: &Ends,
    counters: &Counters,
    touch: impl Fn(),
) -> std::io::Result<()> {
    let (reading, mut writing) = tokio::io::split(stream);
    let inbound = async {
        let mut pieces = Pieces::new(reading);
        while let Some(piece) = pieces.next().await? {
            touch();
            let len = piece.len();
            writer.data_bytes(piece).await.map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            counters.sent(len);
        }
        writer.eof().await.map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok::<_, std::io::Error>(())
    };
    let outbound = async {
        while let Some(chunk) = ends.input.next().await {
            touch();
            counters.received(chunk.len());
            writing.write_all(&chunk).await?;
            writing.flush().await?;
        }
        writing.shutdown().await
    };
    tokio::select! {
        both = async { tokio::try_join!(inbound, outbound) } => both.map(drop),
        () = ends.closed.cancelled() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_whole_and_in_order() {
        let source: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut pieces = Pieces::new(source.as_slice());
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().await.unwrap() {
            assert!(piece.len() <= 2 * READ_MAX);
            all.extend_from_slice(&piece);
        }
        assert_eq!(all, source);
    }
}
