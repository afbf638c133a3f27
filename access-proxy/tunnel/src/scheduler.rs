//! Which stream sends next.
//!
//! Deficit round robin by bytes with a fast lane, after
//! [RFC 8290](https://www.rfc-editor.org/rfc/rfc8290#section-4.2) (FQ-CoDel): a stream that
//! starts to send goes before those that have been sending, for one quantum; then it queues with
//! the others. So a keystroke overtakes bulk, and no stream can live in the fast lane: one that
//! empties there passes once through the slow one.

use std::collections::VecDeque;

use crate::frame::StreamId;

/// Bytes that a stream may send ahead of others when it starts.
const FAST_QUANTUM: i64 = 16 * 1024;
/// Bytes that a stream may send in one turn; a few frames, so that its reader and writer are woken
/// once for them.
const QUANTUM: i64 = 64 * 1024;

/// What a stream remembers for the scheduler.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    queued: bool,
    deficit: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    fast: VecDeque<StreamId>,
    slow: VecDeque<StreamId>,
}

impl Scheduler {
    pub(crate) fn is_empty(&self) -> bool {
        self.fast.is_empty() && self.slow.is_empty()
    }

    /// Notes that the stream has something to send.
    pub(crate) fn add(&mut self, id: StreamId, turn: &mut Turn) {
        if !turn.queued {
            *turn = Turn { queued: true, deficit: FAST_QUANTUM };
            self.fast.push_back(id);
        }
    }

    /// The stream whose turn it may be. Settle it with `spent`, `idle` or `gone` before asking
    /// again.
    pub(crate) fn front(&self) -> Option<StreamId> {
        self.fast.front().or(self.slow.front()).copied()
    }

    /// Whether the front stream may send now; if not, it goes to the end of the line with a new
    /// quantum.
    pub(crate) fn may_send(&mut self, turn: &mut Turn) -> bool {
        if turn.deficit > 0 {
            return true;
        }
        turn.deficit += QUANTUM;
        if let Some(id) = self.pop_front() {
            self.slow.push_back(id);
        }
        false
    }

    /// The front stream has sent `n` bytes.
    pub(crate) fn spent(&mut self, turn: &mut Turn, n: usize) {
        turn.deficit -= i64::try_from(n).unwrap_or(i64::MAX);
    }

    /// The front stream has nothing it could send.
    pub(crate) fn idle(&mut self, turn: &mut Turn) {
        if let Some(id) = self.fast.pop_front() {
            if self.slow.is_empty() {
                turn.queued = false;
            } else {
                self.slow.push_back(id);
            }
        } else {
            self.slow.pop_front();
            turn.queued = false;
        }
    }

    /// The front stream does not exist any more.
    pub(crate) fn gone(&mut self) {
        self.pop_front();
    }

    /// Gives back memory that a busy time left behind.
    pub(crate) fn shrink(&mut self) {
        self.fast.shrink_to(8);
        self.slow.shrink_to(8);
    }

    fn pop_front(&mut self) -> Option<StreamId> {
        self.fast.pop_front().or_else(|| self.slow.pop_front())
    }
}
