//! Pipes to and from a process without a terminal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::fcntl::{FcntlArg, fcntl};
use tokio::io::AsyncWrite;
use tokio::net::unix::pipe;

/// How much a pipe holds where the system allows it: enough that a process and this one need not
/// take turns, and small enough to stay in a processor's cache. An idle pipe costs nothing,
/// because its pages are taken when they are filled.
const CAPACITY: i32 = 256 * 1024;

/// A pipe with room, both ends closed on `exec`: the reading end and the writing end.
///
/// # Errors
/// What the system says.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = std::io::pipe()?;
    // Beyond a user's share of pipe memory the kernel says no; the default size works as well.
    let _ = fcntl(writer.as_fd(), FcntlArg::F_SETPIPE_SZ(CAPACITY));
    Ok((reader.into(), writer.into()))
}

/// The end of a pipe that feeds a process; shutting it down closes it.
pub(crate) struct Writer(Option<pipe::Sender>);

impl Writer {
    /// Registers an end of a pipe with the runtime.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(Some(pipe::Sender::from_owned_fd(fd)?)))
    }

    fn open(&mut self) -> io::Result<Pin<&mut pipe::Sender>> {
        self.0.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.open()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}
