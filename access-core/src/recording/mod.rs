//! What happened in a session, kept so that it can be read while it grows, after a crash, and
//! years later with the certainty that nobody changed it.
//!
//! # The container
//!
//! ```text
//! prefix    8 bytes "ACSREC\r\n", version u16, reserved u16       (integers are big-endian)
//! frame 0   'M'  who, what, when: RecordingMeta as JSON
//! frame 1…  'C'  a chunk of lines
//!           'E'  when and why it ended: RecordingEnd as JSON
//!           'S'  the recorder's signature, as JSON
//!
//! frame     kind u8 · codec u8 (0 plain, 1 zstd) · reserved u16 · index u32
//!           stored length u32 · plain length u32 · crc32c of the stored body u32
//!           crc32c of these 20 bytes u32 · the stored body · chain (32 bytes)
//!
//! chain     SHA-256(the chain before · the frame's header · its stored body);
//!           before frame 0: SHA-256("access recording" 0 · prefix)
//! signature over "access recording signature" 0 · the chain of frame E
//! ```
//!
//! A file is only ever appended to, a frame at a time. The checksums tell a torn write from what
//! was written; the chain makes that no chunk can be changed, left out, doubled or moved without
//! redoing all that follow; the signature makes that nobody but the recorder can redo them. What
//! a crash cut off costs the last chunk, and is reported ([`Ending::Truncated`]).
//!
//! # The lines
//!
//! Chunks hold whole lines of JSON. Sessions with a terminal or a command hold
//! [asciicast v2](https://docs.asciinema.org/manual/asciicast/v2/): its header, then
//! `[seconds, "o", text]` for output, `"i"` for input, `"r"` for a new size. Files that go through
//! are `"ob"` and `"ib"`, in base64, so that they are kept byte for byte. Other protocols write the
//! same shape with codes of their own, such as `[1.5, "db.query", {…}]`. Players of asciicast skip
//! codes that they do not know; [`to_asciicast`] leaves none.
//!
//! ```
//! use access_core::recording::*;
//! use access_core::{SessionId, Timestamp, UserName};
//!
//! let start = Timestamp::from_secs(1_767_323_045);
//! let meta = RecordingMeta::new(
//!     SessionId::new("s-1")?, RecordingKind::Ssh, UserName::new("alice")?, "node/web-1", start,
//! );
//! let mut writer = RecordingWriter::new(&meta).unwrap();
//! writer.output(start, b"hello\r\n");
//! writer.finish(&RecordingEnd::new(start, "exit"), None).unwrap();
//! let file = writer.take();
//!
//! let mut reader = RecordingReader::trusting_nobody();
//! reader.push(&file);
//! let event = reader.next_event().unwrap();
//! assert_eq!(event.what, What::Output("hello\r\n".into()));
//! assert!(matches!(reader.finish(), Ending::Unsigned { .. }));
//! # Ok::<(), access_core::ids::IdError>(())
//! ```

mod cast;
mod error;
mod frame;
mod line;
mod memory;
mod meta;
mod oracle;
mod reader;
mod recorder;
mod sign;
#[cfg(test)]
mod tests;
mod utf8;
mod writer;

pub use cast::{CastExport, to_asciicast};
pub use error::RecordingError;
pub use memory::{MemoryRecorder, MemoryRecording};
pub use meta::{RecordingEnd, RecordingKind, RecordingMeta, TerminalSize};
#[doc(hidden)]
pub use oracle::fuzz_oracle;
pub use reader::{Ending, RecordedEvent, RecordingReader, What};
pub use recorder::{Append, AppendedSession, Recorder, RecordingSession};
pub use sign::{KeyAlgorithm, RecorderKey, RecorderTrust, RecordingSigner, RingSigner};
pub use writer::RecordingWriter;
