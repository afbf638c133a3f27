//! One task between a client and a database: both directions under one poll, no buffer while
//! nothing passes, and nothing passes to the client before its event is accepted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use access_core::gate::EndReason;
use access_core::reach::BoxedStream;
use access_core::wake::Bell;
use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::poll_read_buf;

use super::session::{Cause, Session};
use super::target::MAX_MISSING;
use crate::machine::{Out, Step};
use crate::wire::encode;

/// The least and the most that is read at once. Most messages are small, and so is what is least:
/// allocators are quick with it.
const READ_LEAST: usize = 1000;
const READ_MOST: usize = 64 * 1024;
/// After a read of so much, more is expected to be at hand.
const MUCH: usize = 4096;
/// Room for so many pieces is kept while nothing passes.
const KEPT: usize = 4;
/// The most pieces that are written at once.
const GATHER: usize = 16;
/// As often one side is served before others of the runtime are.
const ROUNDS: usize = 32;
/// How often it is looked whether something waits to be told: what was sent is told within twice
/// this time, however long its answer takes.
const TICK: Duration = Duration::from_millis(45);
/// How long the database may take to answer what a client has sent that is gone.
const LEAVING: Duration = Duration::from_secs(1);

/// One side: its stream, and what rings when that has news.
pub(super) struct Side {
    pub(super) stream: BoxedStream,
    bell: Bell,
}

impl Side {
    pub(super) fn new(stream: BoxedStream) -> Self {
        Self { stream, bell: Bell::new() }
    }

    /// The stream, and with what to poll it.
    fn parts(&mut self) -> (Pin<&mut BoxedStream>, Context<'_>) {
        (Pin::new(&mut self.stream), self.bell.context())
    }
}

/// One direction.
pub(super) struct Way {
    /// Read and not yet passed.
    pub(super) buf: BytesMut,
    /// To be written.
    pub(super) out: Out,
    /// There may be something in the buffer that the machine has not seen.
    pub(super) fresh: bool,
    /// The stream that is read from may have something.
    readable: bool,
    /// The one that is written to may take something.
    writable: bool,
    /// The reader is at its end.
    ended: bool,
    /// Nobody takes what is written.
    dead: bool,
    /// Something was written and not flushed.
    dirty: bool,
    /// How much to read at once.
    chunk: usize,
    /// What was read.
    pub(super) bytes: u64,
}

impl Way {
    pub(super) fn new(buf: BytesMut) -> Self {
        Self {
            fresh: !buf.is_empty(),
            buf,
            out: Out::default(),
            readable: true,
            writable: true,
            ended: false,
            dead: false,
            dirty: false,
            chunk: READ_LEAST,
            bytes: 0,
        }
    }

    /// Reads more; ready with whether there is any. When much comes, it is gathered: each record
    /// of TLS is read by itself, and would be written by itself.
    fn poll_read(&mut self, from: &mut Side) -> Poll<io::Result<bool>> {
        let (mut stream, mut cx) = from.parts();
        let mut gathered = 0;
        loop {
            if !self.readable {
                if gathered > 0 {
                    return Poll::Ready(Ok(true));
                }
                // No memory while nothing passes.
                if self.buf.is_empty() {
                    (self.buf, self.chunk) = (BytesMut::new(), READ_LEAST);
                }
                return Poll::Pending;
            }
            self.buf.reserve(self.chunk);
            let room = self.buf.capacity() - self.buf.len();
            let polled = poll_read_buf(stream.as_mut(), &mut cx, &mut self.buf);
            match polled {
                Poll::Pending => self.readable = false,
                // Met again with the next read.
                Poll::Ready(Ok(0) | Err(_)) if gathered > 0 => return Poll::Ready(Ok(true)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(false)),
                Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
                Poll::Ready(Ok(count)) => {
                    gathered += count;
                    self.bytes += count as u64;
                    self.fresh = true;
                    if (count < MUCH && count < room) || gathered >= READ_MOST {
                        return Poll::Ready(Ok(true));
                    }
                    self.chunk = (self.chunk * 8).min(READ_MOST);
                }
            }
        }
    }

    /// Writes what is to be written; ready when all of it is.
    fn poll_out(&mut self, to: &mut Side) -> Poll<()> {
        while !self.out.pieces.is_empty() {
            if self.dead {
                self.out.pieces.clear();
                break;
            }
            if !self.writable {
                return Poll::Pending;
            }
            match poll_write_pieces(to, &self.out) {
                Poll::Pending => {
                    self.writable = false;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(count @ 1..)) => {
                    self.dirty = true;
                    self.out.advance(count);
                }
                Poll::Ready(Ok(0) | Err(_)) => self.dead = true,
            }
        }
        Poll::Ready(())
    }

    /// The same when nothing else is waited for.
    async fn write_all(&mut self, to: &mut Side) {
        std::future::poll_fn(|cx| {
            self.writable |= to.bell.answer(cx);
            self.poll_out(to)
        })
        .await;
    }

    /// Flushes, now that nothing more is at hand.
    fn poll_flush(&mut self, to: &mut Side) {
        if self.dirty && !self.dead {
            let (stream, mut cx) = to.parts();
            match stream.poll_flush(&mut cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.dirty = false,
                Poll::Ready(Err(_)) => self.dead = true,
            }
        }
    }
}

fn poll_write_pieces(to: &mut Side, out: &Out) -> Poll<io::Result<usize>> {
    let (stream, mut cx) = to.parts();
    let mut slices = [IoSlice::new(&[]); GATHER];
    let mut used = 0;
    for (slot, piece) in slices.iter_mut().zip(&out.pieces) {
        *slot = IoSlice::new(piece);
        used += 1;
    }
    match slices.get(..used) {
        Some([one]) => stream.poll_write(&mut cx, one),
        some => stream.poll_write_vectored(&mut cx, some.unwrap_or_default()),
    }
}

/// What the relay asks for before it goes on.
enum Turn {
    /// A statement is to be judged.
    Judge,
    /// Notes are to be accepted.
    Notes,
    /// It is time to see what waits.
    Tick,
    /// It is over.
    Over(Cause),
}

/// When it is looked whether something waits.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    bell: Bell,
    armed: bool,
    leaving: bool,
}

impl Timer {
    pub(super) fn new() -> Self {
        let sleep = Box::pin(sleep(Duration::ZERO));
        Self { sleep, bell: Bell::new(), armed: false, leaving: false }
    }

    /// Whether its time has come.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        self.bell.answer(cx)
            && self.armed
            && self.sleep.as_mut().poll(&mut self.bell.context()).is_ready()
    }

    fn set(&mut self, span: Duration) {
        self.armed = true;
        self.sleep.as_mut().reset(Instant::now() + span);
        // One whose time has come while it was set rings by nobody else.
        if self.sleep.as_mut().poll(&mut self.bell.context()).is_ready() {
            self.bell.context().waker().wake_by_ref();
        }
    }
}

impl Session {
    /// Relays until it is over.
    pub(super) async fn relay(&mut self) -> Cause {
        loop {
            let turn = std::future::poll_fn(|cx| self.poll(cx)).await;
            let done = match turn {
                Turn::Over(cause) => return cause,
                Turn::Judge => {
                    self.judge_next().await;
                    Ok(())
                }
                Turn::Notes => self.accept_notes().await,
                Turn::Tick => self.tick().await,
            };
            if let Err(cause) = done {
                return cause;
            }
        }
    }

    async fn judge_next(&mut self) {
        self.hurried = false;
        let Some(question) = self.machine.question(&self.up.buf) else { return };
        match self.judge.judge(question).await {
            Ok(()) => {
                self.cancellable.session.at_statement(self.machine.statements() + 1);
                self.machine.allow();
            }
            Err(failure) => {
                let now = self.clock.now();
                self.machine.refuse(&failure, &mut self.up.buf, &mut self.up.out, now);
            }
        }
    }

    pub(super) async fn accept_notes(&mut self) -> Result<(), Cause> {
        let notes = std::mem::take(&mut self.notes);
        self.cancellable.session.at_statement(self.machine.statements());
        self.tape.record(&notes).await.map_err(Cause::Recording)?;
        self.journal.accept(notes).await.map_err(Cause::Audit)
    }

    async fn tick(&mut self) -> Result<(), Cause> {
        let oldest = self.machine.oldest_untold();
        if oldest.is_some_and(|sent| self.clock.now().since(sent) >= TICK) {
            self.machine.tell(&mut self.notes);
            self.accept_notes().await?;
        }
        self.tape.flush().await.map_err(Cause::Recording)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.end_bell.answer(cx)
            && let Poll::Ready(reason) = self.ended.poll_unpin(&mut self.end_bell.context())
        {
            return Poll::Ready(Turn::Over(Cause::Ended(reason)));
        }
        if self.client.bell.answer(cx) {
            (self.up.readable, self.down.writable) = (true, true);
        }
        if self.server.bell.answer(cx) {
            (self.down.readable, self.up.writable) = (true, true);
        }
        if self.timer.poll(cx) {
            self.timer.armed = false;
            if self.timer.leaving {
                return Poll::Ready(Turn::Over(Cause::Client));
            }
            return Poll::Ready(Turn::Tick);
        }
        for _ in 0..ROUNDS {
            let mut moved = false;
            if let Some(turn) = self.poll_up(&mut moved) {
                return Poll::Ready(turn);
            }
            if let Some(turn) = self.poll_down(&mut moved) {
                return Poll::Ready(turn);
            }
            if !moved {
                self.arm();
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sets the timer, if something waits. It is left alone while it runs: setting it for every
    /// statement would cost more than a look too many.
    fn arm(&mut self) {
        let leaving = self.up.ended && !self.timer.leaving;
        let waits = || self.machine.oldest_untold().is_some() || self.tape.deadline().is_some();
        if leaving || (!self.timer.armed && waits()) {
            let span = if leaving { LEAVING } else { TICK };
            self.timer.leaving = leaving;
            self.timer.set(span);
        }
    }

    fn poll_up(&mut self, moved: &mut bool) -> Option<Turn> {
        loop {
            // What the server does not take any more is its own doing: it says why, or closes.
            if self.up.poll_out(&mut self.server).is_pending() {
                return None;
            }
            if self.up.fresh {
                let now = self.clock.now();
                let step = self.machine.client(&mut self.up.buf, &mut self.up.out, now);
                match step {
                    Ok(Step::More) => self.up.fresh = false,
                    Ok(Step::Judge) if self.judge.careful && self.machine.is_busy() => {
                        if !std::mem::replace(&mut self.hurried, true) {
                            self.up.out.push(encode::flush());
                        }
                        if self.up.out.pieces.is_empty() {
                            self.up.poll_flush(&mut self.server);
                            return None;
                        }
                    }
                    Ok(Step::Judge) => return Some(Turn::Judge),
                    Ok(Step::Tell) => {
                        self.machine.tell(&mut self.notes);
                        return Some(Turn::Notes);
                    }
                    Ok(Step::Full) if self.up.out.pieces.is_empty() => {
                        self.up.poll_flush(&mut self.server);
                        return None;
                    }
                    Ok(Step::Full) => {}
                    Ok(Step::Over) => (self.up.fresh, self.up.ended) = (false, true),
                    Err(broken) => return Some(Turn::Over(Cause::Broken(broken))),
                }
                *moved = true;
                continue;
            }
            if self.up.ended {
                self.up.poll_flush(&mut self.server);
                return None;
            }
            match self.up.poll_read(&mut self.client) {
                Poll::Pending => {
                    self.up.poll_flush(&mut self.server);
                    return None;
                }
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => {
                    self.up.ended = true;
                    if self.machine.at_client_boundary() && self.up.buf.is_empty() {
                        self.up.out.push(encode::terminate());
                    } else {
                        // Half a message: there is nothing that the server could be told.
                        return Some(Turn::Over(Cause::Client));
                    }
                }
            }
            *moved = true;
        }
    }

    fn poll_down(&mut self, moved: &mut bool) -> Option<Turn> {
        loop {
            if self.down.poll_out(&mut self.client).is_pending() {
                return None;
            }
            if self.down.dead && !self.up.ended {
                self.up.ended = true;
                *moved = true;
            }
            if self.down.fresh {
                self.down.fresh = false;
                self.whole = self.machine.at_boundary();
                let way = &mut self.down;
                let done = self.machine.server(&mut way.buf, &mut way.out, &mut self.notes);
                if let Err(broken) = done {
                    return Some(Turn::Over(Cause::Broken(broken)));
                }
                *moved = true;
                if !self.notes.is_empty() {
                    return Some(Turn::Notes);
                }
                continue;
            }
            if self.down.ended {
                return Some(Turn::Over(self.server_left()));
            }
            match self.down.poll_read(&mut self.server) {
                Poll::Pending => {
                    self.down.poll_flush(&mut self.client);
                    return None;
                }
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => self.down.ended = true,
                Poll::Ready(Err(err)) => {
                    // The permit's end cuts the stream; the reason is at hand, too.
                    if let Some(reason) =
                        err.get_ref().and_then(|err| err.downcast_ref::<EndReason>())
                    {
                        return Some(Turn::Over(Cause::Ended(reason.clone())));
                    }
                    self.down.ended = true;
                }
            }
            *moved = true;
        }
    }

    fn server_left(&self) -> Cause {
        if self.up.ended {
            return Cause::Client;
        }
        Cause::Server(self.machine.last_words().map(str::to_owned))
    }

    /// Passes the rest of a message on of which the client has a part: only after that it can be
    /// told why it is over. A message of which too much is missing stays as it is.
    pub(super) async fn complete_message(&mut self) {
        let Self { client, server, machine, down, .. } = self;
        machine.complete(&mut down.buf, &mut down.out);
        if machine.missing() > MAX_MISSING {
            return;
        }
        while machine.missing() > 0 && !down.dead {
            down.write_all(client).await;
            down.buf.reserve(READ_LEAST);
            match server.stream.read_buf(&mut down.buf).await {
                Ok(count @ 1..) => down.bytes += count as u64,
                // The database has cut it, or what the permit still allowed is used up.
                Ok(0) | Err(_) => return,
            }
            machine.complete(&mut down.buf, &mut down.out);
        }
    }

    /// Writes what is left to the client, and a last message.
    pub(super) async fn say_farewell(&mut self, last: Option<Bytes>) {
        if let Some(last) = last {
            self.down.out.push(last);
        }
        let Self { client, down, .. } = self;
        while !down.dead && !down.out.pieces.is_empty() {
            down.write_all(client).await;
        }
        let _ = client.stream.shutdown().await;
    }
}

impl Out {
    /// Forgets what was written.
    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > count {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
        // Next to no memory while nothing passes.
        if self.pieces.capacity() > KEPT {
            self.pieces = std::collections::VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_rings_when_its_time_has_come_and_also_when_it_came_at_once() {
        let mut task = Context::from_waker(Waker::noop());
        let mut timer = Timer::new();
        assert!(!timer.poll(&mut task), "it is not set");
        timer.set(TICK);
        assert!(!timer.poll(&mut task));
        tokio::time::advance(TICK).await;
        assert!(timer.poll(&mut task));
        timer.set(Duration::ZERO);
        assert!(timer.poll(&mut task));
    }
}
