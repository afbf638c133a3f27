//! Reads recordings: whole ones, growing ones, broken ones.

use std::fmt;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;

use super::frame::{self, CHAIN_LEN, Chain, HEADER_LEN, Header, PREFIX_LEN};
use super::line::{self, Line};
use super::meta::{RecordingEnd, RecordingMeta, TerminalSize};
use super::sign::{RecorderKey, RecorderTrust, Sealed};

/// Something that happened in a session.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecordedEvent {
    /// How long after the session's start.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// The session printed.
    Output(String),
    /// The session printed something that is no text.
    OutputBytes(Vec<u8>),
    /// Somebody typed.
    Input(String),
    /// Somebody sent something that is no text.
    InputBytes(Vec<u8>),
    /// The terminal got another size.
    Resize(TerminalSize),
    /// An event of another protocol, or of a later version.
    Other {
        /// Its code.
        code: String,
        /// What it says.
        data: Value,
    },
}

/// How a recording ends: how far it can be believed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Ending {
    /// It is whole, and signed by a recorder that is trusted.
    Complete {
        /// By whom.
        signed_by: RecorderKey,
        /// When and why the session ended.
        end: RecordingEnd,
    },
    /// It is whole, and signed by somebody who is not trusted.
    Untrusted {
        /// By whom.
        signed_by: RecorderKey,
        /// When and why the session ended.
        end: RecordingEnd,
    },
    /// It is whole, but not signed: whoever had the file can have made it up.
    Unsigned {
        /// When and why the session ended.
        end: RecordingEnd,
    },
    /// It breaks off: the session still runs, or its recorder crashed. What was read is what was
    /// written, as far as can be told without a signature.
    Truncated {
        /// Where the whole frames end, in bytes from the start.
        at: u64,
    },
    /// It was changed, or damaged. What was read before is as it was written, as far as can be
    /// told without a signature.
    Tampered {
        /// Where the bad frame begins, in bytes from the start.
        at: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is of another version of the format.
    Unsupported {
        /// Which.
        version: u16,
    },
}

/// Reads a recording, in pieces as they come.
///
/// Push bytes, then take events until there are none, and so on: what is pushed is kept until it
/// is read, so pushing a whole large file at once takes that much memory. Whatever the bytes are,
/// one chunk of at most 256 KiB is decompressed at a time.
///
/// ```
/// use access_core::recording::{Ending, RecordingReader};
/// let mut reader = RecordingReader::trusting_nobody();
/// reader.push(b"not a recording");
/// assert!(reader.next_event().is_none());
/// assert!(matches!(reader.finish(), Ending::Tampered { at: 0, .. }));
/// ```
pub struct RecordingReader {
    trust: Box<dyn RecorderTrust>,
    state: State,
    /// Bytes that were pushed and not read yet; they begin at `offset`.
    bytes: BytesMut,
    offset: u64,
    chain: Chain,
    index: u32,
    meta: Option<RecordingMeta>,
    /// Lines of the last chunk that were not given out yet.
    lines: Bytes,
    /// Whether the next line is the first of all, and so may be a header.
    first_line: bool,
}

enum State {
    Prefix,
    Meta,
    Chunks,
    Ended(RecordingEnd),
    /// Nothing but zeros since `offset`: blocks that a file system gave out and a crash kept from
    /// being filled.
    Zeros,
    /// The last frame was read; nothing may follow.
    Signed(Ending),
    Done(Ending),
}

impl fmt::Debug for RecordingReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordingReader")
            .field("offset", &self.offset)
            .field("frames", &self.index)
            .finish_non_exhaustive()
    }
}

impl RecordingReader {
    /// A reader for which the signatures of these recorders count.
    pub fn new(trust: impl RecorderTrust + 'static) -> Self {
        Self {
            trust: Box::new(trust),
            state: State::Prefix,
            bytes: BytesMut::new(),
            offset: 0,
            chain: Chain::start(&[]),
            index: 0,
            meta: None,
            lines: Bytes::new(),
            first_line: true,
        }
    }

    /// A reader that reports every signature as [`Ending::Untrusted`]: for looking at a recording
    /// of which nothing need be proven.
    pub fn trusting_nobody() -> Self {
        Self::new(Vec::<RecorderKey>::new())
    }

    /// Takes some more of the recording's bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Done(_)) {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Who, what, when: known once the first frame was read.
    pub fn meta(&mut self) -> Option<&RecordingMeta> {
        while self.meta.is_none() && self.step().is_some() {}
        self.meta.as_ref()
    }

    /// The next event; nothing until more is pushed, or at the end.
    pub fn next_event(&mut self) -> Option<RecordedEvent> {
        loop {
            while self.lines.has_remaining() {
                let line = self.next_line();
                if std::mem::take(&mut self.first_line) && line.first() == Some(&b'{') {
                    continue;
                }
                match parse(&line) {
                    Some(event) => return Some(event),
                    None => {
                        self.lines.clear();
                        self.fail("a line is malformed");
                        return None;
                    }
                }
            }
            self.lines = self.next_chunk()?;
        }
    }

    /// The lines of the next chunk, as they were written; nothing until more is pushed, or at the
    /// end. Lines that [`RecordingReader::next_event`] has begun to read are left out.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.step()? {
                return Some(chunk);
            }
        }
    }

    /// How it ends, when that is known already. Nothing may follow a signature: if something
    /// does, a whole recording becomes a tampered one.
    pub fn ending(&self) -> Option<&Ending> {
        match &self.state {
            State::Done(ending) => Some(ending),
            State::Signed(ending) if self.bytes.is_empty() => Some(ending),
            _ => None,
        }
    }

    /// How it ends if nothing follows. Reads what was pushed and not read yet.
    pub fn finish(mut self) -> Ending {
        while self.next_event().is_some() {}
        match self.state {
            State::Done(ending) | State::Signed(ending) => ending,
            State::Ended(end) if self.bytes.is_empty() => Ending::Unsigned { end },
            _ => Ending::Truncated { at: self.offset },
        }
    }

    fn next_line(&mut self) -> Bytes {
        let end = self.lines.iter().position(|b| *b == b'\n').unwrap_or(self.lines.len());
        let line = self.lines.split_to(end);
        if self.lines.has_remaining() {
            self.lines.advance(1);
        }
        line
    }

    fn fail(&mut self, why: &'static str) {
        self.end(Ending::Tampered { at: self.offset, why });
    }

    fn end(&mut self, ending: Ending) {
        self.state = State::Done(ending);
        self.bytes = BytesMut::new();
    }

    /// Reads one frame: `None` when it is not there yet or reading is over, `Some(None)` when it
    /// was read and holds no lines.
    fn step(&mut self) -> Option<Option<Bytes>> {
        match &self.state {
            State::Done(_) => return None,
            State::Prefix => return self.read_prefix(),
            State::Signed(_) => {
                if !self.bytes.is_empty() {
                    self.fail("something follows the signature");
                }
                return None;
            }
            State::Zeros => {
                if self.bytes.iter().any(|b| *b != 0) {
                    self.fail("there is no frame where one should be");
                } else {
                    self.bytes.clear();
                }
                return None;
            }
            State::Meta | State::Chunks | State::Ended(_) => {}
        }
        let header_bytes: [u8; HEADER_LEN] = *self.bytes.first_chunk()?;
        if header_bytes == [0; HEADER_LEN] {
            self.state = State::Zeros;
            return Some(None);
        }
        match self.read_frame(&header_bytes)? {
            Ok(lines) => Some(lines),
            Err(why) => {
                self.fail(why);
                None
            }
        }
    }

    fn read_prefix(&mut self) -> Option<Option<Bytes>> {
        let prefix: [u8; PREFIX_LEN] = *self.bytes.first_chunk()?;
        let [magic @ .., v0, v1, r0, r1] = prefix;
        let version = u16::from_be_bytes([v0, v1]);
        if magic != frame::MAGIC {
            self.fail("it is no recording");
            return None;
        }
        if version != frame::VERSION || [r0, r1] != [0, 0] {
            self.end(Ending::Unsupported { version });
            return None;
        }
        self.chain = Chain::start(&prefix);
        self.state = State::Meta;
        self.consume(PREFIX_LEN);
        Some(None)
    }

    /// Reads a frame and acts on it. `None`: it is not all there. Until everything about it is
    /// checked, nothing is consumed, so that a failure is reported where the frame begins.
    fn read_frame(
        &mut self,
        header_bytes: &[u8; HEADER_LEN],
    ) -> Option<Result<Option<Bytes>, &'static str>> {
        let header = match Header::parse(header_bytes) {
            Ok(header) => header,
            Err(why) => return Some(Err(why)),
        };
        let stored_end = HEADER_LEN + header.stored_len();
        let total = stored_end + CHAIN_LEN;
        if self.bytes.len() < total {
            return None;
        }
        let stored = self.bytes.get(HEADER_LEN..stored_end)?;
        let chain = self.chain.next(header_bytes, stored);
        let continues = header.index == self.index
            && self.bytes.get(stored_end..total)? == chain.as_bytes().as_slice();
        let checked = if !header.is_intact(stored) {
            Err("the checksum of a frame is wrong")
        } else if !continues {
            Err("a frame does not continue the one before it")
        } else {
            header.open(stored)
        };
        let acted = checked.and_then(|body| self.act(header.kind, body));
        if acted.is_ok() {
            self.chain = chain;
            self.index = self.index.wrapping_add(1);
            self.consume(total);
        }
        Some(acted)
    }

    fn act(&mut self, kind: u8, body: Vec<u8>) -> Result<Option<Bytes>, &'static str> {
        match (&self.state, kind) {
            (State::Meta, frame::META) => {
                let meta =
                    serde_json::from_slice(&body).map_err(|_| "the metadata is malformed")?;
                self.meta = Some(meta);
                self.state = State::Chunks;
                Ok(None)
            }
            (State::Chunks, frame::CHUNK) => {
                if body.last() == Some(&b'\n') {
                    Ok(Some(Bytes::from(body)))
                } else {
                    Err("a chunk ends within a line")
                }
            }
            (State::Chunks, frame::END) => {
                let end = serde_json::from_slice(&body).map_err(|_| "the end is malformed")?;
                self.state = State::Ended(end);
                Ok(None)
            }
            (State::Ended(end), frame::SIGNATURE) => {
                let end = end.clone();
                self.signature(end, &body).map(|()| None)
            }
            _ => Err("a frame is where none of its kind may be"),
        }
    }

    fn signature(&mut self, end: RecordingEnd, body: &[u8]) -> Result<(), &'static str> {
        let sealed: Sealed =
            serde_json::from_slice(body).map_err(|_| "the signature is malformed")?;
        let (signed_by, certificates) =
            sealed.verify(&self.chain.signed_message()).ok_or("the signature is wrong")?;
        let ending = if self.trust.trusts(&signed_by, &certificates) {
            Ending::Complete { signed_by, end }
        } else {
            Ending::Untrusted { signed_by, end }
        };
        self.state = State::Signed(ending);
        Ok(())
    }

    fn consume(&mut self, count: usize) {
        self.bytes.advance(count);
        self.offset += u64::try_from(count).unwrap_or(u64::MAX);
    }
}

fn parse(line: &[u8]) -> Option<RecordedEvent> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let what = match &*line.1 {
        "o" => What::Output(line.text()?),
        "i" => What::Input(line.text()?),
        "r" => What::Resize(TerminalSize::parse(&line.text()?)?),
        line::OUTPUT_BYTES => What::OutputBytes(line.bytes()?),
        line::INPUT_BYTES => What::InputBytes(line.bytes()?),
        code => {
            What::Other { code: code.to_owned(), data: serde_json::from_str(line.2.get()).ok()? }
        }
    };
    Some(RecordedEvent { at: line.at(), what })
}
