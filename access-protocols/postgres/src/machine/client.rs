//! What the client sends: statements are held back until they are judged, everything is entered
//! in the queue, and all the rest passes.

use access_core::Timestamp;
use access_core::audit::{Parameter, Parameters, Text};
use bytes::{Buf, BytesMut};

use super::queue::{Kind, What};
use super::{Broken, MAX_JUDGED, MAX_TEXT, Machine, Out};
use crate::wire::{Failure, Fields, Head, WireError, encode, head};

/// In the place of a refused statement: a syntax error wherever it is, in or out of a
/// transaction, that says in the server's own log what it is about.
const REFUSED: &str = "refused by access";

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More bytes.
    More,
    /// The buffer starts with a statement that waits for a verdict: [`Machine::allow`] or
    /// [`Machine::refuse`], then go on.
    Judge,
    /// So much waits to be told that [`Machine::tell`] should be called first.
    Tell,
    /// So much waits for an answer that the client should wait, too. The server has been asked to
    /// answer.
    Full,
    /// The client has taken its leave.
    Over,
}

#[derive(Debug, Default)]
pub(super) struct ClientSide {
    /// So much of the last message is still to come, and passes.
    rest: usize,
    /// So much of the last message is still to come, and does not.
    refused_rest: usize,
    /// The message at hand may pass.
    allowed: bool,
    /// The server was asked to answer what waits.
    flushed: bool,
}

impl ClientSide {
    pub(super) const fn at_boundary(&self) -> bool {
        self.rest == 0 && self.refused_rest == 0
    }
}

/// A statement that waits for its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question<'a> {
    /// SQL; whether that is all of it.
    Statement { text: &'a [u8], whole: bool },
    /// A call by the fast path.
    Call,
}

/// How a message is answered, if it is.
const fn kind_of(kind: u8) -> Option<Kind> {
    Some(match kind {
        b'Q' => Kind::Query,
        b'P' => Kind::Parse,
        b'B' => Kind::Bind,
        b'D' => Kind::Describe,
        b'E' => Kind::Execute,
        b'C' => Kind::Close,
        b'S' => Kind::Sync,
        b'F' => Kind::Call,
        _ => return None,
    })
}

/// How much of a message must be at hand before it passes.
fn look(head: Head) -> usize {
    match head.kind {
        b'Q' | b'P' => Head::LEN + MAX_JUDGED,
        b'B' | b'F' => MAX_TEXT,
        b'E' | b'C' | b'D' | b'S' | b'H' | b'X' => head.total,
        _ => Head::LEN,
    }
    .min(head.total)
}

impl Machine {
    /// Takes what the client sent.
    ///
    /// # Errors
    /// [`Broken::Client`] when it is no message.
    pub(crate) fn client(
        &mut self,
        buf: &mut BytesMut,
        out: &mut Out,
        now: Timestamp,
    ) -> Result<Step, Broken> {
        if self.client.refused_rest > 0 {
            let gone = self.client.refused_rest.min(buf.len());
            buf.advance(gone);
            self.client.refused_rest -= gone;
        }
        let mut passes = 0;
        let step = loop {
            if self.client.rest > 0 {
                let here = self.client.rest.min(buf.len() - passes);
                self.client.rest -= here;
                passes += here;
                if self.client.rest > 0 {
                    break Step::More;
                }
            }
            let here = buf.get(passes..).unwrap_or_default();
            let Some(head) = head(here).map_err(Broken::Client)? else { break Step::More };
            let head = head.check_client().map_err(Broken::Client)?;
            let need = look(head);
            let Some(seen) = here.get(..need) else { break Step::More };
            let body = seen.get(Head::LEN..).unwrap_or_default();
            let enters = kind_of(head.kind).is_some();
            if enters && self.queue.wants_telling() {
                break Step::Tell;
            }
            if matches!(head.kind, b'Q' | b'P' | b'F') && !self.client.allowed {
                break Step::Judge;
            }
            if enters && self.queue.is_full() {
                if !self.client.flushed {
                    self.client.flushed = true;
                    out.pass(buf, passes);
                    passes = 0;
                    out.push(encode::flush());
                }
                break Step::Full;
            }
            self.client.flushed = false;
            self.client.allowed = false;
            let (kind, total) = (head.kind, head.total);
            let what = what_of(kind, body, self.watch.redact)
                .map_err(|()| Broken::Client(WireError::Malformed(char::from(kind))))?;
            if let Some(kind) = kind_of(kind) {
                self.queue.push(kind, what, None, now);
            }
            let have = total.min(here.len());
            self.client.rest = total - have;
            passes += have;
            if kind == b'X' {
                break Step::Over;
            }
        };
        out.pass(buf, passes);
        Ok(step)
    }

    /// What [`Step::Judge`] asks about.
    pub(crate) fn question<'a>(&self, buf: &'a [u8]) -> Option<Question<'a>> {
        let head = head(buf).ok().flatten()?;
        let body = buf.get(Head::LEN..look(head))?;
        let mut fields = Fields::new(body);
        match head.kind {
            b'F' => return Some(Question::Call),
            b'P' => {
                fields.text_at_hand();
            }
            _ => {}
        }
        let (text, whole) = fields.text_at_hand();
        Some(Question::Statement { text, whole })
    }

    /// Lets the statement pass that [`Step::Judge`] has asked for.
    pub(crate) const fn allow(&mut self) {
        self.client.allowed = true;
    }
}

pub(super) fn refuse(
    machine: &mut Machine,
    failure: &Failure,
    buf: &mut BytesMut,
    out: &mut Out,
    now: Timestamp,
) {
    let Ok(Some(head)) = head(buf) else { return };
    let seen = look(head).min(buf.len());
    let body = buf.get(Head::LEN..seen).unwrap_or_default();
    let what = what_of(head.kind, body, machine.watch.redact).ok().flatten();
    let (kind, replacement) = match head.kind {
        b'P' => (Kind::Parse, encode::parse("", REFUSED)),
        b'F' => (Kind::Call, encode::call_of_nothing()),
        _ => (Kind::Query, encode::query(REFUSED)),
    };
    machine.queue.push(kind, what, Some(encode::error_response(failure)), now);
    let here = head.total.min(buf.len());
    buf.advance(here);
    machine.client.refused_rest = head.total - here;
    out.push(replacement);
}

/// What a message has the server do, as far as it is noted.
fn what_of(kind: u8, body: &[u8], redact: bool) -> Result<Option<What>, ()> {
    let mut fields = Fields::new(body);
    let name = |fields: &mut Fields<'_>| Text::lossy(fields.text_at_hand().0);
    let text = |fields: &mut Fields<'_>| Text::lossy(fields.text_at_hand().0);
    Ok(Some(match kind {
        b'Q' => What::Query { text: text(&mut fields) },
        b'P' => What::Parse { name: name(&mut fields), text: text(&mut fields) },
        b'B' => What::Bind {
            portal: name(&mut fields),
            statement: name(&mut fields),
            parameters: values(fields, redact),
        },
        b'E' => What::Execute {
            portal: Text::lossy(fields.text().ok_or(())?),
            max_rows: fields.u32().ok_or(())?,
            bound: None,
        },
        b'C' => What::Close {
            kind: fields.u8().ok_or(())?,
            name: Text::lossy(fields.text().ok_or(())?),
        },
        b'F' => What::Call { function: fields.u32().ok_or(())?, arguments: values(fields, redact) },
        _ => return Ok(None),
    }))
}

/// The values in a Bind or FunctionCall, as far as they are at hand.
fn values(mut fields: Fields<'_>, redact: bool) -> Parameters {
    if redact {
        return Parameters::default();
    }
    let formats = usize::try_from(fields.i16().unwrap_or(0)).unwrap_or(0);
    let (formats, _) = fields.up_to(formats * 2);
    let is_binary = |at: usize| {
        let at = if formats.len() == 2 { 0 } else { at * 2 };
        formats.get(at..at + 2).is_some_and(|format| format != [0, 0])
    };
    let count = usize::try_from(fields.i16().unwrap_or(0)).unwrap_or(0);
    let mut values = (0..count).map_while(|at| {
        let Ok(length) = usize::try_from(fields.i32()?) else { return Some(Parameter::Null) };
        let (value, _) = fields.up_to(length);
        Some(if is_binary(at) { Parameter::Binary(value) } else { Parameter::Text(value) })
    });
    values.by_ref().collect()
}
