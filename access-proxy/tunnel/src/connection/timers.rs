//! Deadlines: hello, keep-alive, dead peer, unanswered opens, lingering streams.

use std::time::{Duration, Instant};

use super::stream::Phase;
use super::{Connection, Event};
use crate::code::{CloseCode, RefuseCode, ResetCode};
use crate::error::CloseReason;
use crate::frame::Frame;

#[derive(Debug, Default)]
pub(super) struct Ping {
    /// A ping is to be sent.
    pub(super) due: bool,
    token: u64,
    /// When the ping that is not yet answered was sent.
    outstanding: Option<Instant>,
    last: Option<Instant>,
}

impl Ping {
    /// The token of a ping that is sent now.
    pub(super) fn start(&mut self, now: Instant) -> u64 {
        self.token += 1;
        self.outstanding = Some(now);
        self.last = Some(now);
        self.token
    }

    /// Whether no ping is under way and the last is so long ago.
    pub(super) fn idle_since(&self, now: Instant, interval: Duration) -> bool {
        self.outstanding.is_none() && self.last.is_none_or(|last| now >= last + interval)
    }
}

impl Connection {
    /// When [`handle_timeout`](Self::handle_timeout) is to be called next, at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed.is_some() {
            return self.close_deadline;
        }
        if self.peer.is_none() {
            return Some(self.started + self.config.hello_timeout);
        }
        let mut at = self.last_input + self.config.idle_timeout;
        if self.ping.outstanding.is_none() && !self.ping.due {
            at = at.min(self.last_input + self.config.keep_alive);
        }
        for queue in [&self.open_deadlines, &self.linger_deadlines] {
            at = queue.front().map_or(at, |(deadline, _)| at.min(*deadline));
        }
        Some(at)
    }

    /// Acts on every deadline that has passed. Input that has already come should be handled
    /// before, or a machine that slept takes its peer for dead.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let now = self.now;
        if self.closed.is_some() {
            if self.close_deadline.is_some_and(|at| at <= now) {
                self.close_deadline = None;
                self.control.clear();
            }
            return;
        }
        if self.peer.is_none() {
            if now >= self.started + self.config.hello_timeout {
                self.shut(CloseReason::HelloTimeout, Some((CloseCode::HELLO_TIMEOUT, "")));
            }
            return;
        }
        if now >= self.last_input + self.config.idle_timeout {
            self.shut(CloseReason::DeadPeer, Some((CloseCode::DEAD_PEER, "")));
            return;
        }
        if now >= self.last_input + self.config.keep_alive && self.ping.outstanding.is_none() {
            self.ping.due = true;
        }
        self.expire_opens();
        self.expire_lingering();
        self.close_if_drained();
    }

    pub(super) fn on_pong(&mut self, token: u64) {
        if token == self.ping.token
            && let Some(sent) = self.ping.outstanding.take()
        {
            self.rtt.sample(self.now.saturating_duration_since(sent), self.now);
        }
    }

    fn expire_opens(&mut self) {
        while let Some((_, id)) = self.open_deadlines.pop_front_if(|(at, _)| *at <= self.now) {
            let Some(s) = self.streams.get_mut(id) else { continue };
            if s.phase == Phase::Opening && s.reset.is_none() {
                s.phase = Phase::Refused(RefuseCode::TIMEOUT, "".into());
                Frame::Reset { id, code: ResetCode::TIMEOUT }.encode(&mut self.control);
                self.events.push_back(Event::Answered(id));
                self.settle(id);
            }
        }
    }

    fn expire_lingering(&mut self) {
        while let Some((_, id)) = self.linger_deadlines.pop_front_if(|(at, _)| *at <= self.now) {
            let Some(s) = self.streams.get_mut(id) else { continue };
            if s.sent > s.sent_at_linger {
                s.sent_at_linger = s.sent;
                self.linger_deadlines.push_back((self.now + self.config.linger, id));
            } else {
                self.reset_now(id, ResetCode::LINGER);
            }
        }
    }
}
