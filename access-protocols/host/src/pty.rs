//! Pseudo-terminals.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use access_core::reach::{Pty, PtySize};
use futures::future::BoxFuture;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use nix::unistd::{Group, fchown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::account::Account;
use crate::{modes, sys};

/// A terminal that was opened for a login: our end, and the one that its processes get.
pub(crate) struct Opened {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
    /// Such as `/dev/pts/3`.
    pub(crate) path: String,
}

/// Opens a terminal as the client asked for it, and gives it to the account.
///
/// # Errors
/// What the system says.
pub(crate) fn open_for(account: &Account, pty: &Pty) -> io::Result<Opened> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let master = posix_openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname_r(&master)?;
    let slave =
        open(path.as_str(), OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty())?;
    if account.needs_change() {
        // Group `tty` may write, for write(1) and wall(1); nobody else may do anything.
        let tty = Group::from_name("tty").ok().flatten().map(|group| group.gid);
        fchown(&slave, Some(account.uid), Some(tty.unwrap_or(account.gid)))?;
        let mode = if tty.is_some() { 0o620 } else { 0o600 };
        fchmod(&slave, Mode::from_bits_truncate(mode))?;
    }
    sys::set_window_size(&slave, winsize(pty.size))?;
    let mut termios = tcgetattr(&slave)?;
    modes::apply(&mut termios, &pty.modes);
    tcsetattr(&slave, SetArg::TCSANOW, &termios)?;
    Ok(Opened { master: master.into(), slave, path })
}

/// Our end of a terminal, shared by its reader, its writer and what resizes it.
#[derive(Clone)]
pub(crate) struct Master(Arc<AsyncFd<OwnedFd>>);

impl Master {
    /// Registers a descriptor, which must be non-blocking, with the runtime.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(Arc::new(sys::register(fd, Interest::READABLE | Interest::WRITABLE)?)))
    }

    pub(crate) fn resize(&self, size: PtySize) -> io::Result<()> {
        sys::set_window_size(self.0.get_ref(), winsize(size))
    }

    /// The process group that the keyboard's signals go to.
    pub(crate) fn foreground(&self) -> Option<nix::unistd::Pid> {
        nix::unistd::tcgetpgrp(self.0.get_ref().as_fd()).ok().filter(|pid| pid.as_raw() > 1)
    }

    pub(crate) fn writer(&self) -> Writer {
        Writer(self.clone())
    }

    /// A reader that ends when nobody holds the terminal any more, or when `exited` has completed
    /// and what was written until then is read: a job in the background that still holds the
    /// terminal does not keep a session open, as with `sshd`.
    pub(crate) fn reader(&self, exited: impl Future<Output = ()> + Send + 'static) -> Reader {
        Reader { master: self.clone(), exited: Some(Box::pin(exited)) }
    }

    fn try_read(&self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        match nix::unistd::read(self.0.get_ref(), buf.initialize_unfilled()) {
            Ok(read) => {
                buf.advance(read);
                Ok(())
            }
            // The last process closed it: that is how the end of a terminal looks from here.
            Err(Errno::EIO) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }
}

fn winsize(size: PtySize) -> libc::winsize {
    libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: size.pixel_width,
        ws_ypixel: size.pixel_height,
    }
}

/// What the terminal shows.
pub(crate) struct Reader {
    master: Master,
    /// Taken once it has completed.
    exited: Option<BoxFuture<'static, ()>>,
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(exited) = &mut self.exited
            && exited.as_mut().poll(cx).is_ready()
        {
            self.exited = None;
        }
        loop {
            if self.exited.is_none() {
                // The kernel moves all that was written over before it says "would block".
                return Poll::Ready(match self.master.try_read(buf) {
                    Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(()),
                    done => done,
                });
            }
            let mut ready = ready!(self.master.0.poll_read_ready(cx))?;
            match ready.try_io(|_| self.master.try_read(buf)) {
                Ok(done) => return Poll::Ready(done),
                Err(_would_block) => {}
            }
        }
    }
}

/// What is typed. Closing it does nothing, as with `sshd`: a terminal has no end of input but the
/// character that its modes name (`VEOF`, mostly Ctrl-D), and that one the client types itself.
pub(crate) struct Writer(Master);

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.0.poll_write_ready(cx))?;
            let written = ready.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), buf)?));
            match written {
                Ok(done) => return Poll::Ready(done),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
