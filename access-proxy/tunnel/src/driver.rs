//! The future that moves bytes between the transport and the machine.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

use crate::error::CloseReason;
use crate::shared::{Shared, now};
use crate::transmit::Transmit;

/// Read buffer of a quiet tunnel; reads and writes above it count as busy.
const QUIET_BUFFER: usize = 4 * 1024;
/// Busy buffers are given back after this long without a busy moment.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// Read buffers kept until their slices are read.
const SPARE_BLOCKS: usize = 8;
/// Slices in one vectored write.
const MAX_SLICES: usize = 64;
/// Rounds of reading and writing before other tasks get their turn.
const MAX_ROUNDS: usize = 4;

/// Runs a tunnel: does all of its I/O and keeps its time. Must be polled, usually by spawning it,
/// within a Tokio runtime that has its timer enabled; resolves to the reason once the tunnel is
/// closed and the transport shut down. Dropping it closes the tunnel.
#[must_use = "a tunnel does nothing unless its driver is polled"]
pub struct Driver<T> {
    io: T,
    shared: Arc<Shared>,
    block: BytesMut,
    block_size: usize,
    spare: Vec<BytesMut>,
    max_block: usize,
    out: Transmit,
    unflushed: bool,
    write_error: Option<io::ErrorKind>,
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
    busy_at: Option<Instant>,
    wakers: Vec<Waker>,
    ending: Option<Ending>,
    done: bool,
}

/// The tunnel is closed; what remains is to say so.
struct Ending {
    reason: CloseReason,
    deadline: Option<Instant>,
    shut_down: bool,
}

/// What the transport brought.
enum Input {
    Bytes(Bytes),
    Nothing,
    Ended(CloseReason),
}

impl<T> Driver<T> {
    pub(crate) fn new(io: T, shared: Arc<Shared>, max_block: usize) -> Self {
        Self {
            io,
            shared,
            block: BytesMut::new(),
            block_size: QUIET_BUFFER,
            spare: Vec::new(),
            max_block,
            out: Transmit::new(),
            unflushed: false,
            write_error: None,
            sleep: None,
            armed: None,
            busy_at: None,
            wakers: Vec::new(),
            ending: None,
            done: false,
        }
    }

    fn wake_all(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    /// Makes sure that the block has room for a read worth its while.
    fn prepare_block(&mut self) {
        let least = self.block_size.min(QUIET_BUFFER);
        if self.block.capacity() >= least || self.block.try_reclaim(self.block_size) {
            return;
        }
        let used = std::mem::take(&mut self.block);
        // The block used last is the likeliest to be in the cache.
        for n in (0..self.spare.len()).rev() {
            if self.spare.get_mut(n).is_some_and(|block| block.try_reclaim(self.block_size)) {
                self.block = self.spare.swap_remove(n);
                break;
            }
        }
        if self.block.capacity() == 0 {
            self.block = BytesMut::with_capacity(self.block_size);
        }
        if self.spare.len() < SPARE_BLOCKS && self.block_size > QUIET_BUFFER {
            self.spare.push(used);
        }
    }

    fn release_buffers(&mut self) {
        self.busy_at = None;
        self.block = BytesMut::new();
        self.block_size = QUIET_BUFFER;
        self.spare = Vec::new();
        self.out.shrink();
        self.wakers = Vec::new();
        self.shared.drive(&mut self.wakers, |state| state.shrink());
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Input {
        self.prepare_block();
        let mut ended = None;
        while self.block.len() < self.block.capacity() {
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.block) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    ended = Some(CloseReason::Lost);
                    break;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(e)) => {
                    ended = Some(match e.kind() {
                        // A TLS peer that is gone without a close notify is gone all the same.
                        io::ErrorKind::UnexpectedEof => CloseReason::Lost,
                        kind => CloseReason::Io(kind),
                    });
                    break;
                }
            }
        }
        if !self.block.is_empty() {
            // An end is found again by the next read.
            if self.block.len() == self.block.capacity() {
                self.block_size = (self.block_size * 4).min(self.max_block);
            }
            return Input::Bytes(self.block.split().freeze());
        }
        match ended {
            Some(reason) => Input::Ended(reason),
            None => Input::Nothing,
        }
    }

    /// Writes what is left of the batch and flushes. Ready with whether anything moved; pending
    /// with the transport's waker registered.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut moved = false;
        let vectored = self.io.is_write_vectored();
        if !vectored {
            self.out.flatten();
        }
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let n = self.out.slices(&mut slices);
            let slices = slices.get(..n).unwrap_or_default();
            let io = Pin::new(&mut self.io);
            let written = if vectored {
                io.poll_write_vectored(cx, slices)
            } else {
                io.poll_write(cx, slices.first().map_or(&[], |s| s))
            };
            match written {
                Poll::Pending if moved => return Poll::Ready(Ok(true)),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.out.advance(n),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
            }
            self.unflushed = true;
            moved = true;
        }
        if self.unflushed {
            match Pin::new(&mut self.io).poll_flush(cx) {
                // More can be written meanwhile; the flush is tried again with it.
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
            }
        }
        Poll::Ready(Ok(moved))
    }

    /// One round of reading, deciding and writing. Returns whether anything moved.
    fn round(&mut self, cx: &mut Context<'_>) -> bool {
        let input = self.poll_input(cx);
        let now = now();
        let mut moved = false;
        let Self { shared, wakers, out, write_error, .. } = self;
        let mut busy = false;
        self.ending = shared.drive(wakers, |state| {
            state.driver_awake();
            let conn = &mut state.conn;
            match input {
                Input::Bytes(bytes) => {
                    moved = true;
                    busy |= bytes.len() >= QUIET_BUFFER;
                    conn.handle_input(bytes, now);
                }
                // What the peer said last was read before the failed write counts.
                Input::Nothing => {
                    if let Some(kind) = *write_error {
                        conn.transport_lost(CloseReason::Io(kind));
                    }
                }
                Input::Ended(reason) => conn.transport_lost(reason),
            }
            if conn.poll_timeout().is_some_and(|at| at <= now) {
                conn.handle_timeout(now);
            }
            if out.is_empty() {
                conn.poll_transmit(out, now);
                busy |= out.len() >= QUIET_BUFFER;
            }
            let reason = conn.close_reason()?.clone();
            conn.is_finished().then(|| Ending {
                reason,
                deadline: conn.poll_timeout(),
                shut_down: false,
            })
        });
        if busy {
            self.busy_at = Some(now);
        }
        self.wake_all();
        if self.write_error.is_some() {
            self.out = Transmit::new();
            return moved;
        }
        match self.poll_output(cx) {
            Poll::Pending => moved,
            Poll::Ready(Ok(wrote)) => moved | wrote,
            Poll::Ready(Err(e)) => {
                self.write_error = Some(e.kind());
                self.out = Transmit::new();
                true
            }
        }
    }

    /// Leaves the waker unless there is something to do after all. True if the driver may sleep.
    fn park(&mut self, cx: &mut Context<'_>) -> bool {
        if self.busy_at.is_some_and(|at| now() >= at + QUIET_AFTER) {
            self.release_buffers();
        }
        let idle = self.out.is_empty();
        let deadline = self.shared.drive(&mut self.wakers, |state| {
            if idle && state.conn.wants_transmit() {
                return None;
            }
            state.park_driver(cx, idle);
            Some(state.conn.poll_timeout())
        });
        self.wake_all();
        let Some(mut deadline) = deadline else { return false };
        if let Some(busy_at) = self.busy_at {
            let quiet_at = busy_at + QUIET_AFTER;
            deadline = Some(deadline.map_or(quiet_at, |at| at.min(quiet_at)));
        }
        self.poll_sleep(cx, deadline).is_pending()
    }

    /// Pending until about `deadline`: a timer that is set earlier is left to fire.
    fn poll_sleep(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let sleep =
            self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if self.armed.is_none_or(|at| deadline < at) {
            sleep.as_mut().reset(deadline.into());
            self.armed = Some(deadline);
        }
        ready!(sleep.as_mut().poll(cx));
        self.armed = None;
        Poll::Ready(())
    }

    /// Gets the last frame out and the transport shut down, within the deadline.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let Some(mut ending) = self.ending.take() else { return Poll::Pending };
        let mut over = self.write_error.is_some();
        if !over && (!self.out.is_empty() || self.unflushed) {
            over = matches!(self.poll_output(cx), Poll::Ready(Err(_)));
        }
        let written = self.out.is_empty() && !self.unflushed;
        if !over && written && !ending.shut_down {
            match Pin::new(&mut self.io).poll_shutdown(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => ending.shut_down = true,
                Poll::Ready(Err(_)) => over = true,
            }
        }
        // Closing a socket with unread bytes in it destroys what was just sent: read until the
        // peer has seen it and closes too.
        if ending.shut_down {
            over |= !matches!(
                ending.reason,
                CloseReason::Local(_) | CloseReason::Violation(_) | CloseReason::Drained
            );
            while !over {
                self.block.clear();
                if self.block.capacity() == 0 {
                    self.block.reserve(QUIET_BUFFER);
                }
                match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.block) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(0) | Err(_)) => over = true,
                    Poll::Ready(Ok(_)) => {}
                }
            }
        }
        over |= ending.deadline.is_none_or(|at| at <= now());
        if !over && self.poll_sleep(cx, ending.deadline).is_ready() {
            over = true;
        }
        if over {
            return Poll::Ready(ending.reason);
        }
        self.ending = Some(ending);
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = CloseReason;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let this = self.get_mut();
        for _ in 0..MAX_ROUNDS {
            if this.ending.is_some() {
                let reason = ready!(this.poll_end(cx));
                tracing::debug!(%reason, "tunnel closed");
                this.done = true;
                this.shared.done();
                return Poll::Ready(reason);
            }
            if !this.round(cx) && this.ending.is_none() && this.park(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        if !self.done {
            let shared = &self.shared;
            shared.drive(&mut self.wakers, |s| s.conn.transport_lost(CloseReason::Dropped));
            self.wake_all();
            self.shared.done();
        }
    }
}

impl<T> std::fmt::Debug for Driver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}
