//! Makes a recording's bytes. Opens no file: whoever has one appends what [`RecordingWriter::take`]
//! gives.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::error::RecordingError;
use super::frame::{self, Chain};
use super::line;
use super::meta::{RecordingEnd, RecordingMeta, TerminalSize};
use super::sign::{RecordingSigner, Sealed};
use super::utf8::Utf8Stream;
use crate::time::Timestamp;

/// How many bytes of output become one line at most. A byte needs at most six in JSON, so that a
/// full chunk and one more line stay far below what a frame may have.
const MAX_PIECE: usize = 16 * 1024;
/// The most bytes that one event of another protocol, or the metadata, may have.
const MAX_EVENT: usize = 128 * 1024;

/// Turns what happens in a session into a recording's bytes.
///
/// Small writes cost a copy: nothing is allocated until a chunk is full. A chunk is closed when it
/// has 64 KiB of lines, or when the caller does so: [`RecordingWriter::deadline`] says when that
/// is due.
///
/// ```
/// use access_core::recording::*;
/// use access_core::{SessionId, Timestamp, UserName};
/// let start = Timestamp::from_secs(100);
/// let meta = RecordingMeta::new(
///     SessionId::new("s-1")?, RecordingKind::Ssh, UserName::new("alice")?, "node/web-1", start,
/// );
/// let mut writer = RecordingWriter::new(&meta).unwrap();
/// let mut file = writer.take().to_vec();          // the metadata
/// writer.output(start, b"$ ");
/// let later = start.plus(RecordingWriter::FLUSH_AFTER);
/// assert!(!writer.due(start) && writer.due(later));
/// writer.seal();                                  // closes the chunk
/// file.extend_from_slice(&writer.take());
/// # Ok::<(), access_core::ids::IdError>(())
/// ```
pub struct RecordingWriter {
    started: Timestamp,
    /// When the last line was; time never runs backwards in a recording.
    last: Duration,
    chain: Chain,
    index: u32,
    /// The lines of the open chunk.
    lines: Vec<u8>,
    /// When the first line of the open chunk was written.
    opened: Option<Timestamp>,
    /// Closed frames that nobody took yet.
    closed: Vec<u8>,
    output: Utf8Stream,
    input: Utf8Stream,
    ended: bool,
}

impl fmt::Debug for RecordingWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordingWriter")
            .field("frames", &self.index)
            .field("open", &self.lines.len())
            .field("closed", &self.closed.len())
            .finish_non_exhaustive()
    }
}

impl RecordingWriter {
    /// How long lines may wait in an open chunk: what a crash may cost.
    pub const FLUSH_AFTER: Duration = Duration::from_millis(500);

    /// Starts a recording. Its first bytes wait to be taken.
    ///
    /// # Errors
    /// [`RecordingError::TooLarge`] or [`RecordingError::Encoding`] for the metadata.
    pub fn new(meta: &RecordingMeta) -> Result<Self, RecordingError> {
        let prefix = frame::prefix();
        let mut writer = Self {
            started: meta.started,
            last: Duration::ZERO,
            chain: Chain::start(&prefix),
            index: 0,
            lines: Vec::new(),
            opened: None,
            closed: prefix.to_vec(),
            output: Utf8Stream::default(),
            input: Utf8Stream::default(),
            ended: false,
        };
        writer.frame(frame::META, &encode("the metadata", meta)?);
        if meta.kind.is_terminal() {
            let header = line::cast_header(meta)
                .map_err(|error| RecordingError::Encoding(error.to_string()))?;
            writer.lines.extend_from_slice(&header);
            writer.lines.push(b'\n');
            // Known at the start; there is nothing to wait for.
            writer.seal();
        }
        Ok(writer)
    }

    /// Records what the session printed. Bytes that are no UTF-8 become U+FFFD; a character that
    /// is cut waits for its rest. A long piece with a NUL in it is a file rather than a text, and
    /// is kept as it is. Nothing is recorded after the end.
    pub fn output(&mut self, at: Timestamp, data: &[u8]) {
        self.text(at, "o", data);
    }

    /// Records what was typed.
    pub fn input(&mut self, at: Timestamp, data: &[u8]) {
        self.text(at, "i", data);
    }

    /// Records that the terminal got another size.
    pub fn resize(&mut self, at: Timestamp, size: TerminalSize) {
        use std::io::Write as _;
        if self.open_line(at, "r").is_some() {
            // Writing into a Vec can't fail.
            let _ = write!(self.lines, "\"{size}\"");
            self.close_line();
        }
    }

    /// Records an event of another protocol, such as `db.query`.
    ///
    /// # Errors
    /// [`RecordingError::EventCode`], [`RecordingError::TooLarge`] for more than 128 KiB of JSON,
    /// [`RecordingError::Encoding`], [`RecordingError::Ended`].
    pub fn event(
        &mut self,
        at: Timestamp,
        code: &str,
        data: &impl Serialize,
    ) -> Result<(), RecordingError> {
        if !line::is_code(code) {
            return Err(RecordingError::EventCode(code.chars().take(40).collect()));
        }
        let data = encode("an event", data)?;
        self.open_line(at, code).ok_or(RecordingError::Ended)?;
        self.lines.extend_from_slice(&data);
        self.close_line();
        Ok(())
    }

    /// When the open chunk should be closed, if it has anything.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.opened.map(|opened| opened.plus(Self::FLUSH_AFTER))
    }

    /// Whether that moment has come.
    pub fn due(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Closes the open chunk, if it has anything: its bytes can be taken.
    pub fn seal(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        self.frame(frame::CHUNK, &lines);
        self.opened = None;
        // Kept for the next chunk, unless this one was unusually large.
        if lines.capacity() <= 2 * frame::CHUNK_TARGET {
            self.lines = lines;
            self.lines.clear();
        }
    }

    /// Ends the recording, signed or not. Its last bytes wait to be taken.
    ///
    /// Without a signer the recording is as whole, but proves nothing to those who do not trust
    /// where it was kept.
    ///
    /// # Errors
    /// [`RecordingError::Signature`] when the signer fails: the recording is ended, unsigned.
    /// [`RecordingError::Ended`] when it was ended before.
    pub fn finish(
        &mut self,
        end: &RecordingEnd,
        signer: Option<&dyn RecordingSigner>,
    ) -> Result<(), RecordingError> {
        if self.ended {
            return Err(RecordingError::Ended);
        }
        for code in ["o", "i"] {
            self.end_text(end.at, code);
        }
        self.seal();
        self.ended = true;
        self.frame(frame::END, &encode("the end", end)?);
        if let Some(signer) = signer {
            let sealed = Sealed::make(signer, &self.chain.signed_message())?;
            self.frame(frame::SIGNATURE, &encode("the signature", &sealed)?);
        }
        Ok(())
    }

    /// The bytes of closed frames since the last call: to be appended to the file, in this order.
    pub fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.closed))
    }

    /// How many bytes of closed frames wait to be taken.
    pub fn pending(&self) -> usize {
        self.closed.len()
    }

    fn text(&mut self, at: Timestamp, code: &str, data: &[u8]) {
        for piece in data.chunks(MAX_PIECE) {
            if line::is_binary(piece) {
                self.binary(at, code, piece);
                continue;
            }
            let Some(start) = self.open_line(at, code) else { return };
            self.lines.push(b'"');
            let empty = self.lines.len();
            let stream = if code == "o" { &mut self.output } else { &mut self.input };
            let lines = &mut self.lines;
            stream.feed(piece, |text| line::escape(lines, text));
            self.close_text(start, empty);
        }
    }

    fn binary(&mut self, at: Timestamp, code: &str, piece: &[u8]) {
        // What waits for the rest of a character gets none.
        self.end_text(at, code);
        let code = if code == "o" { line::OUTPUT_BYTES } else { line::INPUT_BYTES };
        if self.open_line(at, code).is_some() {
            self.lines.push(b'"');
            line::base64(&mut self.lines, piece);
            self.lines.push(b'"');
            self.close_line();
        }
    }

    fn end_text(&mut self, at: Timestamp, code: &str) {
        let Some(start) = self.open_line(at, code) else { return };
        self.lines.push(b'"');
        let empty = self.lines.len();
        let stream = if code == "o" { &mut self.output } else { &mut self.input };
        let lines = &mut self.lines;
        stream.end(|text| line::escape(lines, text));
        self.close_text(start, empty);
    }

    /// Starts a line and returns where; nothing when the recording has ended.
    fn open_line(&mut self, at: Timestamp, code: &str) -> Option<usize> {
        if self.ended {
            return None;
        }
        self.last = self.last.max(at.since(self.started));
        self.opened.get_or_insert(at);
        let start = self.lines.len();
        line::open(&mut self.lines, self.last, code);
        Some(start)
    }

    /// Ends a line of text, or takes it back when it has no text yet.
    fn close_text(&mut self, start: usize, empty: usize) {
        if self.lines.len() == empty {
            self.lines.truncate(start);
            if self.lines.is_empty() {
                self.opened = None;
            }
        } else {
            self.lines.push(b'"');
            self.close_line();
        }
    }

    fn close_line(&mut self) {
        line::close(&mut self.lines);
        if self.lines.len() >= frame::CHUNK_TARGET {
            self.seal();
        }
    }

    fn frame(&mut self, kind: u8, body: &[u8]) {
        self.chain = frame::write(self.chain, kind, self.index, body, &mut self.closed);
        self.index = self.index.wrapping_add(1);
    }
}

fn encode(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>, RecordingError> {
    let json =
        serde_json::to_vec(value).map_err(|error| RecordingError::Encoding(error.to_string()))?;
    if json.len() > MAX_EVENT {
        return Err(RecordingError::TooLarge { what, size: json.len(), max: MAX_EVENT });
    }
    Ok(json)
}
