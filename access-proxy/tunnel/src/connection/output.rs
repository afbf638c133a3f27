//! What is sent to the peer, and in which order.

use std::time::{Duration, Instant};

use super::stream::{RecvState, SendState};
use super::window::Climate;
use super::{Connection, Event};
use crate::config::MIN_WINDOW;
use crate::frame::{Frame, HEAD_LEN, Head, StreamId};
use crate::transmit::Transmit;

/// A writer that found no room is woken when there is room for this much, or half its buffer.
const WAKE_ROOM: usize = 64 * 1024;
/// While data flows the round trip is measured this often.
const RTT_INTERVAL: Duration = Duration::from_secs(1);

impl Connection {
    /// Whether [`poll_transmit`](Self::poll_transmit) would produce anything.
    pub fn wants_transmit(&self) -> bool {
        !self.control.is_empty()
            || !self.window_updates.is_empty()
            || !self.scheduler.is_empty()
            || self.ping.due
    }

    /// Appends frames to `out`: control frames first, then data until `out` holds a batch
    /// ([`Config::transmit_batch`](crate::Config::transmit_batch)). Returns whether it appended
    /// anything.
    pub fn poll_transmit(&mut self, out: &mut Transmit, now: Instant) -> bool {
        self.now = self.now.max(now);
        let before = out.len();
        self.renew_windows();
        if std::mem::take(&mut self.ping.due) && self.closed.is_none() {
            let token = self.ping.start(self.now);
            Frame::Ping { ack: false, token }.encode(&mut self.control);
        }
        if !self.control.is_empty() {
            out.put_bytes(self.control.split().freeze());
        }
        while out.len() < self.config.transmit_batch && self.send_data(out) {}
        self.wake_memory_blocked();
        self.close_if_drained();
        if !self.control.is_empty() {
            out.put_bytes(self.control.split().freeze());
        }
        let appended = out.len() - before;
        self.stats.bytes_out += appended as u64;
        appended > 0
    }

    /// Gives back memory that a busy time left behind. To be called when the tunnel is quiet.
    pub fn shrink(&mut self) {
        if self.control.is_empty() {
            self.control = Default::default();
        }
        self.scheduler.shrink();
        self.window_updates.shrink_to(8);
        self.events.shrink_to(8);
        self.incoming.shrink_to(4);
    }

    /// Puts the stream in line if it has something to send.
    pub(super) fn schedule(&mut self, id: StreamId) {
        if let Some(s) = self.streams.get_mut(id).filter(|s| s.sendable()) {
            self.scheduler.add(id, &mut s.turn);
        }
    }

    /// Sends one frame of the stream whose turn it is. False if no stream has anything to send.
    fn send_data(&mut self, out: &mut Transmit) -> bool {
        let max_frame = self.peer.map_or(0, |p| p.max_frame);
        loop {
            let Some(id) = self.scheduler.front() else { return false };
            let Some(s) = self.streams.get_mut(id) else {
                self.scheduler.gone();
                continue;
            };
            if !s.sendable() {
                self.scheduler.idle(&mut s.turn);
                continue;
            }
            if !self.scheduler.may_send(&mut s.turn) {
                continue;
            }
            let n = s.outgoing.len().min(s.credit as usize).min(max_frame);
            let fin = s.send == SendState::Finishing && n == s.outgoing.len();
            out.put(&Head::data(id, n, fin));
            let mut left = n;
            while left > 0 {
                let chunk = s.outgoing.pop(left);
                left -= chunk.len();
                out.put_bytes(chunk);
            }
            s.credit -= u32::try_from(n).unwrap_or(s.credit);
            s.sent += n as u64;
            self.scheduler.spent(&mut s.turn, n + HEAD_LEN);
            if fin {
                s.send = SendState::Done;
            }
            let room = self.config.send_buffer.saturating_sub(s.outgoing.len());
            if s.write_blocked && room >= WAKE_ROOM.min(self.config.send_buffer / 2) {
                s.write_blocked = false;
                self.events.push_back(Event::Writable(id));
            }
            self.streams.unsent -= n;
            if fin {
                self.settle(id);
            }
            return true;
        }
    }

    /// Tells those who wait for the memory of all streams once there is some.
    pub(super) fn wake_memory_blocked(&mut self) {
        let enough = self.config.max_send_memory - self.config.send_buffer.min(WAKE_ROOM);
        if self.memory_blocked.is_empty() || self.streams.unsent > enough {
            return;
        }
        for id in std::mem::take(&mut self.memory_blocked) {
            if let Some(s) = self.streams.get_mut(id)
                && std::mem::take(&mut s.write_blocked)
            {
                self.events.push_back(Event::Writable(id));
            }
        }
    }

    fn renew_windows(&mut self) {
        if self.window_updates.is_empty() {
            return;
        }
        if self.ping.idle_since(self.now, RTT_INTERVAL) {
            self.ping.due = true;
        }
        while let Some(id) = self.window_updates.pop_front() {
            let half = self.config.max_receive_memory / 2;
            let windows = self.streams.windows;
            let fair = half / self.streams.len().max(1);
            let fair = u32::try_from(fair).unwrap_or(u32::MAX).max(MIN_WINDOW);
            let Some(s) = self.streams.get_mut(id) else { continue };
            if s.recv != RecvState::Open || s.reset.is_some() {
                continue;
            }
            let (increment, change) = s.window.renew(Climate {
                now: self.now,
                rtt: self.rtt.best(),
                max_window: self.config.max_window,
                spare: half.saturating_sub(windows),
                shrink_to: (windows > half).then_some(fair),
            });
            if change >= 0 {
                self.streams.windows += change.unsigned_abs() as usize;
            } else {
                self.streams.windows -= change.unsigned_abs() as usize;
            }
            if increment > 0 {
                Frame::Window { id, increment }.encode(&mut self.control);
            }
        }
    }
}
