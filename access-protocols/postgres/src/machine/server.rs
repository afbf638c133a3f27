//! What the server sends: everything passes, but for its key data and its answers to what was
//! refused; answers are matched with what they answer.

use bytes::{Buf, BytesMut};

use super::queue::{Kind, Note};
use super::{Broken, Machine, Out, WHOLE};
use crate::sql::is_safe_encoding;
use crate::wire::{Head, Reported, columns, head, parameter_status, reported, rows_of};

/// The most of an error, a setting or a description of columns that is looked at.
const LOOK: usize = 64 * 1024;
/// The most of a command's tag that is looked at.
const TAG: usize = 256;
/// The most columns, results and tags of one statement that are noted.
const MAX_COLUMNS: usize = 256;
const MAX_RESULTS: usize = 16;
const MAX_TAGS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct ServerSide {
    /// So much of the last message is still to come, and passes.
    pub(super) rest: usize,
    /// What it said when it ended the session.
    pub(super) last_words: Option<String>,
}

/// How much of a message must be at hand before it passes.
fn look(head: Head, columns: bool) -> usize {
    match head.kind {
        b'E' | b'S' => LOOK,
        b'T' if columns => LOOK,
        b'C' => Head::LEN + TAG,
        b'K' | b'Z' => head.total,
        _ => Head::LEN,
    }
    .max(if head.total <= WHOLE { WHOLE } else { 0 })
    .min(head.total)
}

impl Machine {
    /// Takes what the server sent.
    ///
    /// # Errors
    /// [`Broken::Server`] when it is no message, and when the server does what ends the session.
    pub(crate) fn server(
        &mut self,
        buf: &mut BytesMut,
        out: &mut Out,
        notes: &mut Vec<Note>,
    ) -> Result<(), Broken> {
        let mut passes = 0;
        loop {
            if self.server.rest > 0 {
                let here = self.server.rest.min(buf.len() - passes);
                self.server.rest -= here;
                passes += here;
                if self.server.rest > 0 {
                    break;
                }
            }
            let here = buf.get(passes..).unwrap_or_default();
            let Some(head) = head(here).map_err(Broken::Server)? else { break };
            if head.kind == b'K' && head.total > WHOLE {
                let length = u32::try_from(head.total - 1).unwrap_or(u32::MAX);
                let err = crate::wire::WireError::Length { kind: 'K', length };
                return Err(Broken::Server(err));
            }
            let Some(seen) = here.get(..look(head, self.watch.columns)) else { break };
            let body = seen.get(Head::LEN..).unwrap_or_default();
            let have = head.total.min(here.len());
            match self.answer(head.kind, body, notes)? {
                Passes::Yes => {
                    self.server.rest = head.total - have;
                    passes += have;
                }
                Passes::No(instead) if have == head.total => {
                    out.pass(buf, passes);
                    passes = 0;
                    buf.advance(have);
                    if let Some(instead) = instead {
                        out.push(instead);
                    }
                }
                // An answer to a refused statement is an error of a line; this one is not.
                Passes::No(_) => return Err(Broken::NotRefused),
            }
        }
        out.pass(buf, passes);
        self.queue.settle(notes);
        Ok(())
    }

    fn answer(&mut self, kind: u8, body: &[u8], notes: &mut Vec<Note>) -> Result<Passes, Broken> {
        let waits = self.queue.kind();
        // What comes unasked, and what says nothing of its own.
        if matches!(kind, b'N' | b'A' | b'd' | b'c') {
            return Ok(Passes::Yes);
        }
        if kind == b'S' {
            return self.setting(body);
        }
        if kind == b'K' {
            return Ok(Passes::No(None));
        }
        if kind == b'E' {
            return Ok(self.error(reported(body), notes));
        }
        if self.queue.head().is_some_and(|entry| entry.refused.is_some()) {
            return Err(Broken::NotRefused);
        }
        match (kind, waits) {
            (b'1', Some(Kind::Parse))
            | (b'2', Some(Kind::Bind))
            | (b'3', Some(Kind::Close))
            | (b'T' | b'n', Some(Kind::Describe))
            | (b's', Some(Kind::Execute)) => self.queue.complete(notes),
            (b'C', Some(Kind::Query)) => self.tagged(body),
            (b'C', Some(Kind::Execute)) => {
                self.tagged(body);
                self.queue.complete(notes);
            }
            (b'I', Some(Kind::Execute)) => self.queue.complete(notes),
            (b'T', Some(Kind::Query)) => self.described(body),
            (b'D', Some(Kind::Query | Kind::Execute)) => {
                self.queue.progress().returned += 1;
            }
            (b'G' | b'W', Some(_)) => {
                self.queue.progress();
                self.queue.copies_in();
            }
            (b'Z', _) => self.queue.ready(notes),
            (b'H' | b'I' | b'V' | b'T', Some(_)) => {
                self.queue.progress();
            }
            _ => {}
        }
        Ok(Passes::Yes)
    }

    /// Rows that were returned were counted as they passed; the tag counts those that were changed
    /// or copied.
    fn tagged(&mut self, body: &[u8]) {
        let tag = body.split(|byte| *byte == 0).next().unwrap_or_default();
        let tag = String::from_utf8_lossy(tag);
        let progress = self.queue.progress();
        let counted = match std::mem::take(&mut progress.returned) {
            0 => rows_of(&tag),
            returned => Some(returned),
        };
        if let Some(rows) = counted {
            progress.rows = Some(progress.rows.unwrap_or(0).saturating_add(rows));
        }
        if progress.tag.len() + tag.len() + 2 <= MAX_TAGS {
            if !progress.tag.is_empty() {
                progress.tag.push_str("; ");
            }
            progress.tag.push_str(&tag);
        }
    }

    fn described(&mut self, body: &[u8]) {
        let wanted = self.watch.columns;
        let progress = self.queue.progress();
        if wanted && progress.columns.len() < MAX_RESULTS {
            progress.columns.push(columns(body, MAX_COLUMNS));
        }
    }

    fn error(&mut self, error: Reported, notes: &mut Vec<Note>) -> Passes {
        let fatal = error.is_fatal();
        if fatal {
            let told = error.clone();
            let told = if self.watch.redact { told.without_message() } else { told };
            self.server.last_words = Some(told.to_string());
        }
        let Some(entry) = self.queue.head() else { return Passes::Yes };
        let kind = entry.kind;
        let instead = if fatal { None } else { self.queue.take_refusal() };
        let progress = self.queue.progress();
        let error = match &instead {
            Some(instead) => {
                progress.refused = true;
                reported(instead.get(Head::LEN..).unwrap_or_default())
            }
            None if self.watch.redact => error.without_message(),
            None => error,
        };
        progress.error = Some(error);
        if kind.ends_ready() {
            self.queue.conclude(notes);
        } else {
            self.queue.fail(notes);
        }
        match instead {
            Some(instead) => Passes::No(Some(instead)),
            None => Passes::Yes,
        }
    }

    fn setting(&self, body: &[u8]) -> Result<Passes, Broken> {
        match parameter_status(body) {
            Some((b"default_transaction_read_only", b"off")) if self.watch.read_only => {
                Err(Broken::ReadOnlyLifted)
            }
            Some((b"client_encoding", name)) if !is_readable(name) => Err(Broken::Encoding),
            _ => Ok(Passes::Yes),
        }
    }
}

/// Whether statements in an encoding can be judged.
pub(super) fn is_readable(encoding: &[u8]) -> bool {
    std::str::from_utf8(encoding).is_ok_and(is_safe_encoding)
}

/// Whether a message goes to the client.
enum Passes {
    Yes,
    /// No, but this does.
    No(Option<bytes::Bytes>),
}
