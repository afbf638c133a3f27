//! A session as a machine: bytes of both sides in, bytes for both sides and notes for the audit
//! log out. It does no I/O, reads no clock and holds no message that only passes through.
//!
//! ```text
//!  client ──► Machine::client ──► out, to the server      Step::Judge: a statement waits for a yes
//!                  │ what was sent, in order
//!                  ▼
//!              the queue ──► notes: what was run, and what came of it
//!                  ▲
//!                  │ what is answered, in order
//!  client ◄── out ◄── Machine::server ◄── server
//! ```
//!
//! The notes that a call returns must be accepted before what the same call let out is sent.

mod back;
mod client;
mod front;
mod queue;
mod server;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use access_core::Timestamp;
use bytes::{Bytes, BytesMut};

pub(crate) use back::{Back, BackError, Secret, Welcome};
pub(crate) use client::{Question, Step};
pub(crate) use front::Asked;
pub(crate) use queue::{Bound, Note, Outcome, What};

use crate::wire::{Failure, WireError};
use client::ClientSide;
use queue::Queue;
use server::ServerSide;

/// The most of a Bind or a call that is looked at for its event.
pub(crate) const MAX_TEXT: usize = 64 * 1024;
/// The most of a statement's text that is held back to be judged. A longer one is judged by its
/// beginning, and by the fact that the rest was not looked at.
pub(crate) const MAX_JUDGED: usize = 1024 * 1024;
/// Longer messages are passed on in parts; shorter ones whole, so that there is nearly always a
/// boundary at which something can be said to the client.
const WHOLE: usize = 4096;

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Broken {
    /// The client sent what is no message.
    #[error("the client: {0}")]
    Client(WireError),
    /// The server did.
    #[error("the database: {0}")]
    Server(WireError),
    /// The server says that transactions may write again.
    #[error("the session's read-only mode was lifted")]
    ReadOnlyLifted,
    /// The client's encoding is one in which statements cannot be judged.
    #[error("client encodings in which a backslash can be part of a character are not allowed")]
    Encoding,
    /// The server ran what should have been refused.
    #[error("the database accepted a statement that cannot be accepted")]
    NotRefused,
}

/// What a session is watched for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    /// Whether it may only read.
    pub(crate) read_only: bool,
    /// Whether bound values are kept out of the notes, and what the server says of errors.
    pub(crate) redact: bool,
    /// Whether the columns of results are noted.
    pub(crate) columns: bool,
}

/// Bytes that go out, in pieces.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) pieces: VecDeque<Bytes>,
}

impl Out {
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Passes the first bytes of a buffer on, without copying them.
    fn pass(&mut self, from: &mut BytesMut, count: usize) {
        if count > 0 {
            self.push(from.split_to(count).freeze());
        }
    }
}

/// One session, from its first ReadyForQuery on.
#[derive(Debug)]
pub(crate) struct Machine {
    watch: Watch,
    queue: Queue,
    client: ClientSide,
    server: ServerSide,
}

impl Machine {
    pub(crate) fn new(watch: Watch) -> Self {
        Self {
            watch,
            queue: Queue::default(),
            client: ClientSide::default(),
            server: ServerSide::default(),
        }
    }

    /// Whether what went to the client ended with a whole message.
    pub(crate) const fn at_boundary(&self) -> bool {
        self.server.rest == 0
    }

    /// How many bytes are missing of the message that the client has been given a part of.
    pub(crate) const fn missing(&self) -> usize {
        self.server.rest
    }

    /// Passes what there is of that message's rest on to the client, and nothing after it.
    pub(crate) fn complete(&mut self, buf: &mut BytesMut, out: &mut Out) {
        let here = self.server.rest.min(buf.len());
        self.server.rest -= here;
        out.pass(buf, here);
    }

    /// Whether what the client sent ended with a whole message.
    pub(crate) const fn at_client_boundary(&self) -> bool {
        self.client.at_boundary()
    }

    /// When the oldest statement was sent that no note has told yet.
    pub(crate) fn oldest_untold(&self) -> Option<Timestamp> {
        self.queue.oldest_untold()
    }

    /// Notes on all that was sent and not told yet, without an outcome.
    pub(crate) fn tell(&mut self, notes: &mut Vec<Note>) {
        self.queue.tell_all(notes);
    }

    /// How many statements were noted.
    pub(crate) fn statements(&self) -> u64 {
        self.queue.numbered()
    }

    /// Whether the server has been sent something that it has not answered.
    pub(crate) fn is_busy(&self) -> bool {
        !self.queue.is_idle()
    }

    /// What the server said when it ended the session.
    pub(crate) fn last_words(&self) -> Option<&str> {
        self.server.last_words.as_deref()
    }

    /// Refuses the statement that [`Step::Judge`] has asked for.
    ///
    /// It is replaced by one that the server itself refuses, so that the state of the transaction
    /// and the end of a pipeline are the server's own and true; the client gets this error in the
    /// place of the server's.
    pub(crate) fn refuse(
        &mut self,
        failure: &Failure,
        buf: &mut BytesMut,
        out: &mut Out,
        now: Timestamp,
    ) {
        client::refuse(self, failure, buf, out, now);
    }
}
