//! A stream as a program sees it.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use crate::code::ResetCode;
use crate::connection::Read;
use crate::error::Error;
use crate::frame::StreamId;
use crate::handle::remove_user;
use crate::shared::Shared;

/// Writes up to this size are copied under the lock, next to one another.
const SMALL_WRITE: usize = 4 * 1024;
/// Most that one write takes.
const MAX_WRITE: usize = 64 * 1024;

/// One stream of a tunnel.
///
/// Shutting it down ends the sending half (FIN) and leaves the other open. Dropping it before
/// resets it with [`ResetCode::CANCELLED`]; dropping it after lets what is queued be delivered and
/// tells the peer to send no more. Writes need no flush: the driver sends as soon as it can.
pub struct Stream {
    shared: Arc<Shared>,
    id: StreamId,
    /// What was taken out of the tunnel and not yet read.
    chunk: Bytes,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self { shared, id, chunk: Bytes::new() }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Its number in the tunnel.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Ends both halves at once; the peer's reads and writes fail with the code.
    pub fn reset(self, code: ResetCode) {
        self.shared.with(|state| state.conn.reset(self.id, code));
    }

    /// Takes received bytes without copying them; `None` after the peer's FIN.
    ///
    /// # Errors
    /// [`Error::Reset`], [`Error::Closed`].
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_read_chunk(cx)).await
    }

    /// As [`read_chunk`](Self::read_chunk), by polling.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let coop = ready!(coop::poll_proceed(cx));
        if !self.chunk.is_empty() {
            coop.made_progress();
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.chunk))));
        }
        let id = self.id;
        let read = self.shared.with(|state| {
            let read = state.conn.read(id);
            if read == Ok(Read::Blocked) {
                state.wait_readable(id, cx);
            }
            read
        });
        let found = match read {
            Ok(Read::Blocked) => return Poll::Pending,
            Ok(Read::Chunk(chunk)) => Ok(Some(chunk)),
            Ok(Read::Eof) => Ok(None),
            Err(error) => Err(error),
        };
        coop.made_progress();
        Poll::Ready(found)
    }

    /// Queues a whole chunk without copying it, as room allows.
    ///
    /// # Errors
    /// [`Error::Reset`], [`Error::Stopped`], [`Error::Closed`], [`Error::WrongState`] after a
    /// shutdown.
    pub async fn write_chunk(&mut self, mut chunk: Bytes) -> Result<(), Error> {
        while !chunk.is_empty() {
            poll_fn(|cx| self.poll_write_chunk(cx, &mut chunk)).await?;
        }
        Ok(())
    }

    /// Queues as much of `chunk` as there is room for, and takes that off its front.
    ///
    /// # Errors
    /// As of [`write_chunk`](Self::write_chunk).
    pub fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<Result<(), Error>> {
        let coop = ready!(coop::poll_proceed(cx));
        let id = self.id;
        let queued = self.shared.with(|state| {
            let room = state.conn.room(id)?;
            if room == 0 && !chunk.is_empty() {
                state.wait_writable(id, cx);
                return Ok(false);
            }
            let part = chunk.split_to(room.min(chunk.len()));
            state.conn.write(id, part).map(|()| true)
        });
        if queued == Ok(false) {
            return Poll::Pending;
        }
        coop.made_progress();
        Poll::Ready(queued.map(|_| ()))
    }

    /// Moves as much of the chunk at hand as fits.
    fn take(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.chunk.len().min(buf.remaining());
        buf.put_slice(self.chunk.get(..n).unwrap_or_default());
        Pin::new(self).consume(n);
    }

    /// Copies from `slices`, of `total` bytes together, as much as there is room for.
    fn poll_copy(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        total: usize,
    ) -> Poll<Result<usize, Error>> {
        let coop = ready!(coop::poll_proceed(cx));
        let id = self.id;
        let mut n = total.min(MAX_WRITE);
        let queued = self.shared.with(|state| {
            let room = state.conn.room(id)?;
            if room == 0 && total > 0 {
                state.wait_writable(id, cx);
                return Ok(None);
            }
            n = n.min(room);
            if n > SMALL_WRITE {
                return Ok(Some(false));
            }
            for part in prefix(slices, n) {
                state.conn.write_copy(id, part)?;
            }
            Ok(Some(true))
        });
        let result = match queued {
            Ok(None) => return Poll::Pending,
            Ok(Some(true)) => Ok(n),
            Ok(Some(false)) => {
                // The copy is made outside of the lock. Only we write to this stream, so the room
                // is still there.
                let mut chunk = BytesMut::with_capacity(n);
                for part in prefix(slices, n) {
                    chunk.extend_from_slice(part);
                }
                self.shared.with(|state| state.conn.write(id, chunk.freeze())).map(|()| n)
            }
            Err(error) => Err(error),
        };
        coop.made_progress();
        Poll::Ready(result)
    }
}

/// The first `n` bytes of `slices`.
fn prefix<'a>(slices: &'a [IoSlice<'_>], mut n: usize) -> impl Iterator<Item = &'a [u8]> {
    slices.iter().map_while(move |slice| {
        let part = slice.get(..n.min(slice.len())).unwrap_or_default();
        let more = n > 0;
        n -= part.len();
        more.then_some(part)
    })
}

impl AsyncBufRead for Stream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.chunk.is_empty()
            && let Some(chunk) = ready!(this.poll_read_chunk(cx))?
        {
            this.chunk = chunk;
        }
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, n: usize) {
        let n = n.min(self.chunk.len());
        self.chunk.advance(n);
        if self.chunk.is_empty() {
            // An empty slice would keep the read buffer that it was cut from.
            self.chunk = Bytes::new();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.as_mut().poll_fill_buf(cx))?;
        self.take(buf);
        // What else is there comes along: whoever asks for much is not handed it by the frame.
        while buf.remaining() > 0 {
            let id = self.id;
            let Some(chunk) = self.shared.with(|state| state.conn.read_ready(id)) else { break };
            self.chunk = chunk;
            self.take(buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.poll_copy(cx, &[IoSlice::new(buf)], buf.len()))?;
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = bufs.iter().map(|b| b.len()).sum();
        let n = ready!(self.poll_copy(cx, bufs, total))?;
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|state| state.conn.finish(self.id))?;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.with(|state| state.detach(self.id));
        remove_user(&self.shared);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}
