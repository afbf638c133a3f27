//! What the peer sends.

use std::time::Instant;

use bytes::Bytes;

use super::stream::{Phase, RecvState, SendState, StreamState};
use super::{Connection, Event, Limits, MAX_CONTROL_QUEUE};
use crate::code::{CloseCode, RefuseCode, ResetCode};
use crate::config::MAX_WINDOW;
use crate::decoder::Item;
use crate::error::CloseReason;
use crate::frame::{Frame, Hello, OpenBody, StreamId, VERSION};

/// Smaller pieces of payload are copied out of the read buffer: a slice keeps the whole buffer.
const SLICE_MIN: usize = 8 * 1024;
/// Slices are taken while no more than this part of the receive memory is unread; beyond it all
/// is copied, so that buffers kept by slices stay within the bound too.
const SLICE_SHARE: usize = 16;

impl Connection {
    /// Takes bytes from the transport, in any chunking. `now` never goes back.
    pub fn handle_input(&mut self, mut input: Bytes, now: Instant) {
        self.now = self.now.max(now);
        if self.closed.is_some() {
            return;
        }
        self.last_input = self.now;
        self.stats.bytes_in += input.len() as u64;
        while self.closed.is_none() {
            let handled = match self.decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Item::Data { id, bytes, fin })) => self.on_data(id, bytes, fin),
                Ok(Some(Item::Frame(frame))) => self.on_frame(frame),
                Err(code) => Err(code),
            };
            if let Err(code) = handled {
                self.violation(code);
            } else if self.control.len() > MAX_CONTROL_QUEUE {
                self.violation(CloseCode::FLOOD);
            }
        }
        self.close_if_drained();
    }

    fn on_data(&mut self, id: StreamId, bytes: Bytes, fin: bool) -> Result<(), CloseCode> {
        let slice = bytes.len() >= SLICE_MIN
            && self.streams.unread < self.config.max_receive_memory / SLICE_SHARE;
        let Some(s) = self.known(id)? else { return Ok(()) };
        match (&s.phase, &s.recv) {
            (Phase::Refused(..), _) => return Ok(()),
            (Phase::Opening | Phase::Deciding, _) | (_, RecvState::Finished) => {
                return Err(CloseCode::STREAM_STATE);
            }
            (Phase::Open, RecvState::Open | RecvState::Stopped) => {}
        }
        s.window.receive(bytes.len())?;
        let n = bytes.len();
        if s.recv == RecvState::Stopped {
            return Ok(());
        }
        if slice {
            s.incoming.push(bytes);
        } else {
            s.incoming.push_copy(&bytes);
        }
        if fin {
            s.recv = RecvState::Finished;
        }
        if std::mem::take(&mut s.read_blocked) {
            self.events.push_back(Event::Readable(id));
        }
        self.streams.unread += n;
        if fin {
            self.settle(id);
        }
        Ok(())
    }

    fn on_frame(&mut self, frame: Frame) -> Result<(), CloseCode> {
        if self.peer.is_none() {
            return match frame {
                Frame::Hello(hello) => self.on_hello(hello),
                // The peer may close before it ever said hello, but only that.
                _ => Err(CloseCode::PROTOCOL),
            };
        }
        match frame {
            Frame::Hello(_) => return Err(CloseCode::PROTOCOL),
            Frame::Open { id, window, body } => return self.on_open(id, window, body),
            Frame::Accept { id, window } => self.on_accept(id, window)?,
            Frame::Refuse { id, code, reason } => self.on_refuse(id, code, reason)?,
            Frame::Window { id, increment } => self.on_window(id, increment)?,
            Frame::Reset { id, code } => {
                if self.known(id)?.is_some() {
                    self.mark_reset(id, code);
                }
            }
            Frame::Stop { id, code } => self.on_stop(id, code)?,
            Frame::Ping { ack: false, token } => {
                Frame::Ping { ack: true, token }.encode(&mut self.control);
            }
            Frame::Ping { ack: true, token } => self.on_pong(token),
            Frame::GoAway { .. } => {
                if !self.peer_draining {
                    self.peer_draining = true;
                    self.events.push_back(Event::PeerGoingAway);
                }
            }
            Frame::Close { code, reason } => {
                self.shut(CloseReason::Remote { code, reason }, None);
            }
        }
        Ok(())
    }

    fn on_hello(&mut self, hello: Hello) -> Result<(), CloseCode> {
        if hello.role == self.role {
            return Err(CloseCode::PROTOCOL);
        }
        if !(hello.min_version..=hello.max_version).contains(&VERSION) {
            return Err(CloseCode::VERSION);
        }
        self.peer = Some(Limits {
            max_streams: hello.max_streams,
            max_frame: usize::from(hello.max_frame).min(self.config.max_frame),
        });
        self.ping.due = true;
        self.events.push_back(Event::Established);
        Ok(())
    }

    fn on_open(&mut self, id: StreamId, window: u32, body: OpenBody) -> Result<(), CloseCode> {
        if self.streams.is_local(id) || !self.streams.remote_id(id) {
            return Err(CloseCode::STREAM_ID);
        }
        let limit = self.config.max_incoming as usize;
        if self.streams.remote_live() >= limit {
            return Err(CloseCode::STREAM_LIMIT);
        }
        self.stats.incoming += 1;
        let full = self.streams.remote() >= limit || self.incoming.len() >= self.config.backlog;
        let refusal = match (body, self.streams.next_window(&self.config)) {
            _ if self.draining => RefuseCode::GOING_AWAY,
            _ if !self.accepting => RefuseCode::NOT_ACCEPTING,
            (OpenBody::Unknown(_), _) => RefuseCode::UNSUPPORTED,
            (OpenBody::Known(header), Some(ours)) if !full => {
                self.streams.insert(id, StreamState::new(Phase::Deciding, window, ours, self.now));
                self.incoming.push_back((id, header));
                self.events.push_back(Event::Incoming);
                return Ok(());
            }
            _ => RefuseCode::OVERLOADED,
        };
        Frame::Refuse { id, code: refusal, reason: String::new() }.encode(&mut self.control);
        Ok(())
    }

    fn on_accept(&mut self, id: StreamId, window: u32) -> Result<(), CloseCode> {
        let local = self.streams.is_local(id);
        let now = self.now;
        let Some(s) = self.known(id)? else { return Ok(()) };
        match s.phase {
            Phase::Opening if local => {
                s.phase = Phase::Open;
                s.credit = window;
                s.window.restart(now);
                self.events.push_back(Event::Answered(id));
                Ok(())
            }
            Phase::Refused(..) => Ok(()),
            _ => Err(CloseCode::STREAM_STATE),
        }
    }

    fn on_refuse(
        &mut self,
        id: StreamId,
        code: RefuseCode,
        reason: String,
    ) -> Result<(), CloseCode> {
        let local = self.streams.is_local(id);
        let Some(s) = self.known(id)? else { return Ok(()) };
        match s.phase {
            Phase::Opening if local => {
                s.phase = Phase::Refused(code, reason.into());
                self.events.push_back(Event::Answered(id));
                self.settle(id);
                Ok(())
            }
            Phase::Refused(..) => Ok(()),
            _ => Err(CloseCode::STREAM_STATE),
        }
    }

    fn on_window(&mut self, id: StreamId, increment: u32) -> Result<(), CloseCode> {
        let Some(s) = self.known(id)? else { return Ok(()) };
        match s.phase {
            Phase::Open => {}
            Phase::Refused(..) => return Ok(()),
            Phase::Opening | Phase::Deciding => return Err(CloseCode::STREAM_STATE),
        }
        let credit = s.credit.checked_add(increment).filter(|c| *c <= MAX_WINDOW);
        s.credit = credit.ok_or(CloseCode::WINDOW)?;
        self.schedule(id);
        Ok(())
    }

    fn on_stop(&mut self, id: StreamId, code: ResetCode) -> Result<(), CloseCode> {
        let Some(s) = self.known(id)? else { return Ok(()) };
        match s.phase {
            Phase::Open => {}
            Phase::Refused(..) => return Ok(()),
            Phase::Opening | Phase::Deciding => return Err(CloseCode::STREAM_STATE),
        }
        if s.send != SendState::Done {
            s.send = SendState::Stopped(code);
        }
        let dropped = s.outgoing.clear();
        if std::mem::take(&mut s.write_blocked) {
            self.events.push_back(Event::Writable(id));
        }
        self.streams.unsent -= dropped;
        self.wake_memory_blocked();
        self.settle(id);
        Ok(())
    }

    /// The stream that a frame is about; `None` if it is over and the frame just late.
    fn known(&mut self, id: StreamId) -> Result<Option<&mut StreamState>, CloseCode> {
        if self.peer.is_none() {
            return Err(CloseCode::PROTOCOL);
        }
        if !self.streams.was_opened(id) {
            return Err(CloseCode::STREAM_ID);
        }
        Ok(self.streams.get_mut(id).filter(|s| s.reset.is_none()))
    }
}
