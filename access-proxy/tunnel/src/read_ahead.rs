//! A transport that is read in large pieces, whatever its reader asks for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// What is asked of the transport at once, while much comes.
const AHEAD: usize = 64 * 1024;
/// A read that brings no more than this shows that little comes.
const LITTLE: usize = 4 * 1024;

/// Puts a buffer in front of a transport while much comes through it, and none while it is quiet.
///
/// rustls asks its transport for 4 KiB at a time, which makes five calls of the system out of a
/// full record. Put this between a socket and TLS where bulk is expected.
///
/// ```
/// # use access_tunnel::ReadAhead;
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut far, near) = tokio::io::duplex(64);
/// let mut near = ReadAhead::new(near);
/// far.write_all(b"hello").await?;
/// let mut text = [0; 5];
/// near.read_exact(&mut text).await?;
/// assert_eq!(&text, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReadAhead<S> {
    inner: S,
    ahead: BytesMut,
    /// The last read brought much.
    busy: bool,
}

impl<S> ReadAhead<S> {
    /// Reads ahead from a transport.
    pub fn new(inner: S) -> Self {
        Self { inner, ahead: BytesMut::new(), busy: false }
    }

    /// The transport. What is read from it directly is missing here.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ahead.is_empty() {
            if !this.busy || buf.remaining() >= AHEAD {
                this.ahead = BytesMut::new();
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                this.busy = buf.filled().len() - before >= LITTLE;
                return Poll::Ready(Ok(()));
            }
            this.ahead.reserve(AHEAD);
            let n = ready!(poll_read_buf(Pin::new(&mut this.inner), cx, &mut this.ahead))?;
            this.busy = n >= LITTLE;
        }
        let n = this.ahead.len().min(buf.remaining());
        buf.put_slice(this.ahead.get(..n).unwrap_or_default());
        this.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_come_whole_and_in_order_and_the_buffer_goes() {
        let (mut far, near) = tokio::io::duplex(100_000);
        let sent: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            far.write_all(&sent).await.unwrap();
            far
        });
        let mut near = ReadAhead::new(near);
        let mut got = Vec::new();
        let mut buffered = 0;
        while got.len() < expected.len() {
            let mut piece = [0; LITTLE];
            let n = near.read(&mut piece).await.unwrap();
            assert!(n > 0);
            got.extend_from_slice(&piece[..n]);
            buffered = buffered.max(near.ahead.len());
        }
        assert_eq!(got, expected);
        assert!(buffered > LITTLE && buffered < AHEAD, "{buffered}");
        // A single byte shows that it is quiet again; with the next one no buffer is left.
        let mut far = writing.await.unwrap();
        for byte in 0..2 {
            far.write_all(&[byte]).await.unwrap();
            assert_eq!(near.read_u8().await.unwrap(), byte);
        }
        assert_eq!(near.ahead.capacity(), 0);
        drop(far);
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
