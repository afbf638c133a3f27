//! What was reached with a permit, and dies with it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::permit::{EndReason, Permit};
use crate::wake::Bell;

/// A stream that fails once its permit has ended.
///
/// Reading notices the end by itself: a reader that waits is woken. The error's kind is
/// [`io::ErrorKind::PermissionDenied`] and [`Guarded::end_reason`] says why.
pub struct Guarded<T> {
    inner: T,
    permit: Permit,
    ended: BoxFuture<'static, EndReason>,
    /// Rings when that is to be polled: it is not for every read and write.
    bell: Bell,
    reason: Option<EndReason>,
    /// So much more may be read after the end.
    rest: usize,
}

impl<T> Guarded<T> {
    pub(super) fn new(permit: Permit, inner: T) -> Self {
        let ended = Box::pin(permit.ended());
        Self { inner, permit, ended, bell: Bell::new(), reason: None, rest: 0 }
    }

    /// The permit.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Why it ended, once it has.
    pub fn end_reason(&self) -> Option<&EndReason> {
        self.reason.as_ref()
    }

    /// Allows so many bytes more to be read after the permit's end, and no more than one read
    /// beyond them: for a protocol that can tell its client why it is over only between two
    /// messages, and takes the rest of the one at hand. Nothing is written after the end, and how
    /// long the rest may take is that protocol's to bound.
    pub fn allow_rest(&mut self, bytes: usize) {
        self.rest = bytes;
    }

    /// Registers for the end and fails when it has come.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.reason.is_none()
            && self.bell.answer(cx)
            && let Poll::Ready(reason) = self.ended.as_mut().poll(&mut self.bell.context())
        {
            self.reason = Some(reason);
        }
        match &self.reason {
            None => Ok(()),
            Some(reason) => Err(io::Error::new(io::ErrorKind::PermissionDenied, reason.clone())),
        }
    }

    /// Fails when the end was seen, without registering for it: the reading half does that.
    fn check_seen(&self) -> io::Result<()> {
        match &self.reason {
            None => Ok(()),
            Some(reason) => Err(io::Error::new(io::ErrorKind::PermissionDenied, reason.clone())),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ended = self.check(cx);
        if self.rest == 0 {
            ended?;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if self.reason.is_some() {
            self.rest = self.rest.saturating_sub(read);
        } else if read > 0 {
            self.permit.touch();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if polled.is_ready() {
            self.permit.touch();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if polled.is_ready() {
            self.permit.touch();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_seen()?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Always allowed: closing is what the end of a permit asks for.
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T> std::fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded")
            .field("permit", &self.permit)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}
