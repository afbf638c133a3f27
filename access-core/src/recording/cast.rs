//! Recordings as plain asciicast files, for players.

use super::frame::MAX_BODY;
use super::line::{self, Line};
use super::reader::{Ending, RecordingReader};
use super::sign::RecorderTrust;

/// Turns a recording into an [asciicast v2](https://docs.asciinema.org/manual/asciicast/v2/), in
/// pieces as they come.
///
/// Of a session without a terminal there is only the header.
///
/// ```
/// # use access_core::recording::*;
/// # use access_core::{SessionId, Timestamp, UserName};
/// # let start = Timestamp::from_secs(100);
/// # let meta = RecordingMeta::new(
/// #     SessionId::new("s-1")?, RecordingKind::Ssh, UserName::new("alice")?, "node/web-1", start,
/// # );
/// # let mut writer = RecordingWriter::new(&meta).unwrap();
/// # writer.output(start, b"hello");
/// # writer.seal();
/// # let recording = writer.take();
/// let mut export = CastExport::new(RecordingReader::trusting_nobody());
/// let mut cast = Vec::new();
/// for piece in recording.chunks(10) {
///     export.push(piece, &mut cast);
/// }
/// assert!(cast.starts_with(br#"{"version":2,"width":80,"height":24,"timestamp":100,"#));
/// assert!(cast.ends_with(b"[0.000,\"o\",\"hello\"]\n"));
/// assert!(matches!(export.finish(), Ending::Truncated { .. }));
/// # Ok::<(), access_core::ids::IdError>(())
/// ```
#[derive(Debug)]
pub struct CastExport {
    reader: RecordingReader,
    begun: bool,
}

impl CastExport {
    /// Exports what a reader reads, which has read nothing yet.
    pub fn new(reader: RecordingReader) -> Self {
        Self { reader, begun: false }
    }

    /// Takes some more of the recording's bytes, and appends what they say to `out`: whole lines.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.chunks(MAX_BODY) {
            self.reader.push(piece);
            self.drain(out);
        }
    }

    /// How the recording ends.
    pub fn finish(self) -> Ending {
        self.reader.finish()
    }

    fn drain(&mut self, out: &mut Vec<u8>) {
        if !self.begun {
            let Some(meta) = self.reader.meta() else { return };
            self.begun = true;
            if let Ok(header) = line::cast_header(meta) {
                out.extend_from_slice(&header);
                out.push(b'\n');
            }
        }
        while let Some(chunk) = self.reader.next_chunk() {
            for line in chunk.split_inclusive(|b| *b == b'\n') {
                let Ok(parsed) = serde_json::from_slice::<Line<'_>>(line) else { continue };
                match &*parsed.1 {
                    "o" | "i" | "r" | "m" => out.extend_from_slice(line),
                    line::OUTPUT_BYTES => lossy(&parsed, "o", out),
                    line::INPUT_BYTES => lossy(&parsed, "i", out),
                    _ => {}
                }
            }
        }
    }
}

/// Bytes as text: what a terminal would have made of them.
fn lossy(line: &Line<'_>, code: &str, out: &mut Vec<u8>) {
    let Some(bytes) = line.bytes() else { return };
    line::open(out, line.at(), code);
    out.push(b'"');
    line::escape(out, &String::from_utf8_lossy(&bytes));
    out.push(b'"');
    line::close(out);
}

/// A whole recording as an asciicast, and how far it can be believed.
///
/// ```
/// # use access_core::recording::*;
/// # use access_core::{SessionId, Timestamp, UserName};
/// # let start = Timestamp::from_secs(100);
/// # let meta = RecordingMeta::new(
/// #     SessionId::new("s-1")?, RecordingKind::Ssh, UserName::new("alice")?, "node/web-1", start,
/// # );
/// # let mut writer = RecordingWriter::new(&meta).unwrap();
/// # writer.finish(&RecordingEnd::new(start, "exit"), None).unwrap();
/// # let recording = writer.take();
/// # let trusted = RecorderKey::new(KeyAlgorithm::Ed25519, [7; 32]);
/// let (cast, ending) = to_asciicast(&recording, trusted);
/// assert!(matches!(ending, Ending::Unsigned { .. }));
/// assert_eq!(cast.iter().filter(|b| **b == b'\n').count(), 1, "the header only");
/// # Ok::<(), access_core::ids::IdError>(())
/// ```
pub fn to_asciicast(recording: &[u8], trust: impl RecorderTrust + 'static) -> (Vec<u8>, Ending) {
    let mut export = CastExport::new(RecordingReader::new(trust));
    let mut cast = Vec::new();
    export.push(recording, &mut cast);
    (cast, export.finish())
}
