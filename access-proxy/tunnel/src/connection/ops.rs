//! What this end does with its streams.

use std::time::Instant;

use bytes::Bytes;

use super::stream::{Phase, RecvState, SendState, StreamState};
use super::{Connection, Event, MAX_CONTROL_QUEUE, Read};
use crate::code::{RefuseCode, ResetCode};
use crate::error::Error;
use crate::frame::{Frame, OpenBody, StreamId, clip};
use crate::header::{MAX_TARGET, OpenHeader};

/// Most bytes that one read returns.
const MAX_READ: usize = 64 * 1024;
/// Bytes that a stream may queue whatever the others have queued.
const MIN_ROOM: usize = 32 * 1024;

impl Connection {
    /// Opens a stream; [`poll_open`](Self::poll_open) tells the answer.
    ///
    /// # Errors
    /// [`Error::TargetTooLong`], [`Error::Closed`], [`Error::GoingAway`],
    /// [`Error::TooManyStreams`], and [`Error::WrongState`] before the tunnel is established.
    pub fn open(&mut self, header: &OpenHeader, now: Instant) -> Result<StreamId, Error> {
        self.now = self.now.max(now);
        if header.target.len() > MAX_TARGET {
            return Err(Error::TargetTooLong(header.target.len()));
        }
        self.check_open()?;
        let limits = self.peer.ok_or(Error::WrongState)?;
        if self.draining || self.peer_draining {
            return Err(Error::GoingAway);
        }
        // The second half of the queue is kept for answers to the peer.
        if self.streams.local_live() >= limits.max_streams as usize
            || self.streams.local() >= self.config.max_outgoing as usize
            || self.control.len() > MAX_CONTROL_QUEUE / 2
        {
            return Err(Error::TooManyStreams);
        }
        let window = self.streams.next_window(&self.config).ok_or(Error::TooManyStreams)?;
        let id = self.streams.local_id().ok_or(Error::GoingAway)?;
        self.stats.opened += 1;
        self.streams.insert(id, StreamState::new(Phase::Opening, 0, window, self.now));
        // Those that were answered need no deadline any more.
        let streams = &self.streams;
        let opening = |id| streams.get(id).is_some_and(|s| s.phase == Phase::Opening);
        while self.open_deadlines.pop_front_if(|(_, id)| !opening(*id)).is_some() {}
        self.open_deadlines.push_back((self.now + self.config.open_timeout, id));
        Frame::Open { id, window, body: OpenBody::Known(header.clone()) }.encode(&mut self.control);
        Ok(id)
    }

    /// The answer to an open, `None` while there is none.
    pub fn poll_open(&self, id: StreamId) -> Option<Result<(), Error>> {
        if let Err(closed) = self.check_open() {
            return Some(Err(closed));
        }
        let Some(s) = self.streams.get(id) else { return Some(Err(Error::WrongState)) };
        if let Some(code) = s.reset {
            return Some(Err(Error::Reset(code)));
        }
        match &s.phase {
            Phase::Opening => None,
            Phase::Refused(code, reason) => {
                Some(Err(Error::Refused { code: *code, reason: reason.to_string() }))
            }
            Phase::Open | Phase::Deciding => Some(Ok(())),
        }
    }

    /// The next stream of the peer that waits for [`accept`](Self::accept) or
    /// [`refuse`](Self::refuse). Those that the peer already gave up are left out.
    pub fn next_incoming(&mut self) -> Option<(StreamId, OpenHeader)> {
        while let Some((id, header)) = self.incoming.pop_front() {
            match self.streams.get(id) {
                Some(s) if s.reset.is_none() => return Some((id, header)),
                _ => self.detach(id),
            }
        }
        None
    }

    /// Takes no streams of the peer from now on: they and those that wait are refused.
    pub fn stop_accepting(&mut self) {
        self.accepting = false;
        self.refuse_waiting();
    }

    /// Accepts a stream.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Reset`] if the peer gave up, [`Error::WrongState`].
    pub fn accept(&mut self, id: StreamId) -> Result<(), Error> {
        self.check_open()?;
        let now = self.now;
        let s = self.streams.get_mut(id).ok_or(Error::WrongState)?;
        if let Some(code) = s.reset {
            return Err(Error::Reset(code));
        }
        if s.phase != Phase::Deciding {
            return Err(Error::WrongState);
        }
        s.phase = Phase::Open;
        s.window.restart(now);
        Frame::Accept { id, window: s.window.size() }.encode(&mut self.control);
        Ok(())
    }

    /// Refuses a stream and lets go of it. Of `reason` the first 255 bytes are sent.
    pub fn refuse(&mut self, id: StreamId, code: RefuseCode, reason: &str) {
        let Some(s) = self.streams.get_mut(id).filter(|s| s.phase == Phase::Deciding) else {
            return;
        };
        let reason = clip(reason);
        s.attached = false;
        s.phase = Phase::Refused(code, "".into());
        if s.reset.is_none() && self.closed.is_none() {
            Frame::Refuse { id, code, reason: reason.to_owned() }.encode(&mut self.control);
        }
        self.settle(id);
        self.close_if_drained();
    }

    /// Takes received bytes.
    ///
    /// # Errors
    /// [`Error::Reset`], [`Error::Closed`] once what came before is read, [`Error::WrongState`]
    /// for a stream that is not open.
    pub fn read(&mut self, id: StreamId) -> Result<Read, Error> {
        let Some(s) = self.streams.get_mut(id) else {
            self.check_open()?;
            return Err(Error::WrongState);
        };
        if let Some(code) = s.reset {
            return Err(Error::Reset(code));
        }
        if !s.incoming.is_empty() {
            let chunk = s.incoming.pop(MAX_READ);
            if s.recv == RecvState::Open && s.window.consume(chunk.len()) && self.closed.is_none() {
                s.window.update_queued = true;
                self.window_updates.push_back(id);
            }
            self.streams.unread -= chunk.len();
            return Ok(Read::Chunk(chunk));
        }
        if s.recv == RecvState::Finished {
            return Ok(Read::Eof);
        }
        if let Some(reason) = &self.closed {
            return Err(Error::Closed(reason.clone()));
        }
        if s.phase != Phase::Open || s.recv == RecvState::Stopped {
            return Err(Error::WrongState);
        }
        s.read_blocked = true;
        Ok(Read::Blocked)
    }

    /// A chunk that is there already. Unlike [`read`](Self::read) it asks for no event.
    pub fn read_ready(&mut self, id: StreamId) -> Option<Bytes> {
        self.streams.get_mut(id).filter(|s| !s.incoming.is_empty())?;
        match self.read(id) {
            Ok(Read::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }

    /// Bytes that [`write`](Self::write) takes now. 0: an [`Event::Writable`] will follow.
    ///
    /// # Errors
    /// [`Error::Reset`], [`Error::Stopped`], [`Error::Closed`], and [`Error::WrongState`] after
    /// [`finish`](Self::finish).
    pub fn room(&mut self, id: StreamId) -> Result<usize, Error> {
        self.check_open()?;
        let unsent = self.streams.unsent;
        let s = self.streams.get_mut(id).ok_or(Error::WrongState)?;
        if let Some(code) = s.reset {
            return Err(Error::Reset(code));
        }
        match s.send {
            SendState::Stopped(code) => return Err(Error::Stopped(code)),
            SendState::Open if s.phase == Phase::Open => {}
            _ => return Err(Error::WrongState),
        }
        let own = self.config.send_buffer.saturating_sub(s.outgoing.len());
        let guaranteed = MIN_ROOM.saturating_sub(s.outgoing.len());
        let shared = self.config.max_send_memory.saturating_sub(unsent);
        let room = own.min(shared.max(guaranteed));
        if room == 0 && !s.write_blocked {
            s.write_blocked = true;
            if own > 0 {
                self.memory_blocked.push(id);
            }
        }
        Ok(room)
    }

    /// Queues a chunk without copying it. No more than [`room`](Self::room) just allowed.
    ///
    /// # Errors
    /// As of [`room`](Self::room).
    pub fn write(&mut self, id: StreamId, chunk: Bytes) -> Result<(), Error> {
        self.put(id, chunk.len(), |s| s.outgoing.push(chunk))
    }

    /// Queues a copy, for small pieces. No more than [`room`](Self::room) just allowed.
    ///
    /// # Errors
    /// As of [`room`](Self::room).
    pub fn write_copy(&mut self, id: StreamId, bytes: &[u8]) -> Result<(), Error> {
        self.put(id, bytes.len(), |s| s.outgoing.push_copy(bytes))
    }

    fn put(
        &mut self,
        id: StreamId,
        n: usize,
        push: impl FnOnce(&mut StreamState),
    ) -> Result<(), Error> {
        self.check_open()?;
        let s = self.streams.get_mut(id).ok_or(Error::WrongState)?;
        if let Some(code) = s.reset {
            return Err(Error::Reset(code));
        }
        match s.send {
            SendState::Stopped(code) => return Err(Error::Stopped(code)),
            SendState::Open if s.phase == Phase::Open => {}
            _ => return Err(Error::WrongState),
        }
        push(s);
        self.streams.unsent += n;
        self.schedule(id);
        Ok(())
    }

    /// Ends the sending half: FIN follows what is queued.
    ///
    /// # Errors
    /// [`Error::Reset`], [`Error::Closed`]; nothing if it was already ended.
    pub fn finish(&mut self, id: StreamId) -> Result<(), Error> {
        self.check_open()?;
        let s = self.streams.get_mut(id).ok_or(Error::WrongState)?;
        if let Some(code) = s.reset {
            return Err(Error::Reset(code));
        }
        if s.phase != Phase::Open {
            return Err(Error::WrongState);
        }
        if s.send == SendState::Open {
            s.send = SendState::Finishing;
            self.schedule(id);
        }
        Ok(())
    }

    /// Ends both halves at once; nothing happens if both are already over.
    pub fn reset(&mut self, id: StreamId, code: ResetCode) {
        self.reset_now(id, code);
        self.close_if_drained();
    }

    /// Nobody holds the stream any more. If its sending half was finished, what is queued is
    /// still delivered and the peer told to send no more; otherwise the stream is reset.
    pub fn detach(&mut self, id: StreamId) {
        let Some(s) = self.streams.get_mut(id) else { return };
        s.attached = false;
        s.read_blocked = false;
        s.write_blocked = false;
        let unread = s.incoming.clear();
        self.streams.unread -= unread;
        if self.closed.is_some() {
            self.streams.remove(id);
            return;
        }
        let Some(s) = self.streams.get_mut(id) else { return };
        if s.over() {
            self.settle(id);
        } else if s.phase == Phase::Deciding {
            self.refuse(id, RefuseCode::REFUSED, "");
        } else if s.phase == Phase::Opening || s.send == SendState::Open {
            self.reset_now(id, ResetCode::CANCELLED);
        } else {
            if s.recv == RecvState::Open {
                s.recv = RecvState::Stopped;
                Frame::Stop { id, code: ResetCode::STOPPED }.encode(&mut self.control);
            }
            if s.send == SendState::Finishing {
                s.sent_at_linger = s.sent;
                self.linger_deadlines.push_back((self.now + self.config.linger, id));
            }
            self.settle(id);
        }
        self.close_if_drained();
    }

    pub(super) fn refuse_waiting(&mut self) {
        let code = if self.draining { RefuseCode::GOING_AWAY } else { RefuseCode::NOT_ACCEPTING };
        while let Some((id, _)) = self.next_incoming() {
            self.refuse(id, code, "");
        }
    }

    pub(super) fn reset_now(&mut self, id: StreamId, code: ResetCode) {
        let Some(s) = self.streams.get_mut(id).filter(|s| !s.over()) else { return };
        debug_assert!(s.reset.is_none());
        if self.closed.is_none() {
            Frame::Reset { id, code }.encode(&mut self.control);
        }
        self.mark_reset(id, code);
    }

    pub(super) fn mark_reset(&mut self, id: StreamId, code: ResetCode) {
        let Some(s) = self.streams.get_mut(id) else { return };
        let opening = s.phase == Phase::Opening;
        s.reset = Some(code);
        let (unread, unsent) = (s.incoming.clear(), s.outgoing.clear());
        if opening {
            self.events.push_back(Event::Answered(id));
        }
        if std::mem::take(&mut s.read_blocked) {
            self.events.push_back(Event::Readable(id));
        }
        if std::mem::take(&mut s.write_blocked) {
            self.events.push_back(Event::Writable(id));
        }
        self.streams.unread -= unread;
        self.streams.unsent -= unsent;
        self.wake_memory_blocked();
        self.settle(id);
    }

    /// Lets the peer's or our next stream take the place of one that is over, and forgets one
    /// that nobody holds.
    pub(super) fn settle(&mut self, id: StreamId) {
        let Some(s) = self.streams.get(id).filter(|s| s.over()) else { return };
        if s.attached {
            self.streams.not_live(id);
        } else {
            self.streams.remove(id);
        }
    }
}
