//! Reads ahead when much comes: the TLS library asks for 4 KiB at a time, each of which would be a
//! call of the system.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// So much is read at once.
const AHEAD: usize = 32 * 1024;

/// A stream that reads ahead as long as its reads are filled, and holds no memory otherwise.
#[derive(Debug)]
pub(crate) struct Ahead<S> {
    inner: S,
    read: BytesMut,
    eager: bool,
}

impl<S> Ahead<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, read: BytesMut::new(), eager: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, read, eager } = &mut *self;
        if read.is_empty() {
            if !*eager {
                let before = buf.filled().len();
                ready!(Pin::new(inner).poll_read(cx, buf))?;
                *eager = buf.remaining() == 0 && buf.filled().len() > before;
                return Poll::Ready(Ok(()));
            }
            read.reserve(AHEAD);
            let Poll::Ready(count) = poll_read_buf(Pin::new(inner), cx, read) else {
                *read = BytesMut::new();
                return Poll::Pending;
            };
            *eager = count? > buf.remaining();
        }
        let count = read.len().min(buf.remaining());
        buf.put_slice(read.get(..count).unwrap_or_default());
        read.advance(count);
        if read.is_empty() && !*eager {
            *read = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
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
        bufs: &[IoSlice<'_>],
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
