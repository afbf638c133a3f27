//! The state of one stream.
//!
//! ```text
//!            we open                                the peer opens
//!               │ OPEN                                   │ OPEN
//!           Opening ── REFUSE, RESET, deadline ─► gone ◄── refuse(), RESET ── Deciding
//!               │ ACCEPT                                 │ accept() / ACCEPT
//!               └──────────────► Open ◄──────────────────┘
//!                                 │
//!       send half: Open ─ shutdown() ─► Finishing ─ FIN sent ─► Done;  STOP ─► Done
//!       recv half: Open ─ FIN ─► Finished;  dropped after shutdown() / STOP ─► Stopped
//!       either side's RESET, or a drop before shutdown(), ends both halves
//! ```
//! A stream is over on the wire when both halves are, and leaves the table when besides nobody
//! holds it any more.

use std::time::Instant;

use super::window::RecvWindow;
use crate::code::{RefuseCode, ResetCode};
use crate::queue::ChunkQueue;
use crate::scheduler::Turn;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// We opened it; no answer yet.
    Opening,
    /// The peer opened it; we have not decided yet.
    Deciding,
    /// Data flows.
    Open,
    /// The peer refused it, or the deadline did.
    Refused(RefuseCode, Box<str>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SendState {
    Open,
    /// No more will be written; FIN follows what is queued.
    Finishing,
    /// FIN is sent.
    Done,
    /// The peer stopped reading.
    Stopped(ResetCode),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RecvState {
    Open,
    /// FIN has come.
    Finished,
    /// We stopped reading.
    Stopped,
}

#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) phase: Phase,
    pub(crate) send: SendState,
    pub(crate) recv: RecvState,
    /// Set once either side reset the stream.
    pub(crate) reset: Option<ResetCode>,
    /// Whether someone holds the stream.
    pub(crate) attached: bool,
    /// Whether it counts against the limit of streams on the wire.
    pub(crate) live: bool,

    /// Bytes that the peer lets us send.
    pub(crate) credit: u32,
    pub(crate) outgoing: ChunkQueue,
    pub(crate) turn: Turn,
    /// The writer waits to be told.
    pub(crate) write_blocked: bool,

    pub(crate) window: RecvWindow,
    pub(crate) incoming: ChunkQueue,
    /// The reader waits to be told.
    pub(crate) read_blocked: bool,
    /// Bytes sent when the linger deadline was last set.
    pub(crate) sent: u64,
    pub(crate) sent_at_linger: u64,
}

impl StreamState {
    pub(crate) fn new(phase: Phase, credit: u32, window: u32, now: Instant) -> Self {
        Self {
            phase,
            send: SendState::Open,
            recv: RecvState::Open,
            reset: None,
            attached: true,
            live: true,
            credit,
            outgoing: ChunkQueue::default(),
            turn: Turn::default(),
            write_blocked: false,
            window: RecvWindow::new(window, now),
            incoming: ChunkQueue::default(),
            read_blocked: false,
            sent: 0,
            sent_at_linger: 0,
        }
    }

    /// Whether a `DATA` frame could be sent now.
    pub(crate) fn sendable(&self) -> bool {
        self.phase == Phase::Open
            && self.reset.is_none()
            && ((!self.outgoing.is_empty() && self.credit > 0)
                || (self.outgoing.is_empty() && self.send == SendState::Finishing))
    }

    /// Whether neither side will send anything for this stream any more.
    pub(crate) fn over(&self) -> bool {
        self.reset.is_some()
            || matches!(self.phase, Phase::Refused(..))
            || (matches!(self.send, SendState::Done | SendState::Stopped(_))
                && self.recv != RecvState::Open)
    }
}
