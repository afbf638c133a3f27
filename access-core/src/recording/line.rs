//! The lines of a chunk: asciicast v2, and events of other protocols in the same shape.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::Duration;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::meta::{RecordingMeta, TerminalSize};
use crate::scan::first_escaped;

/// The first line of an asciicast.
pub(super) fn cast_header(meta: &RecordingMeta) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Env<'a> {
        #[serde(rename = "TERM")]
        term: &'a str,
    }
    #[derive(Serialize)]
    struct Header<'a> {
        version: u8,
        width: u16,
        height: u16,
        timestamp: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<&'a str>,
        title: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        env: Option<Env<'a>>,
    }
    let size = meta.size.unwrap_or(TerminalSize::DEFAULT);
    let login = meta.login.as_ref().map(|login| format!(" as {login}")).unwrap_or_default();
    serde_json::to_vec(&Header {
        version: 2,
        width: size.columns(),
        height: size.rows(),
        timestamp: meta.started.as_secs(),
        command: meta.command.as_ref().map(|command| command.as_str()),
        title: format!("{} on {}{login}", meta.user, meta.target),
        env: meta.term.as_ref().map(|term| Env { term: term.as_str() }),
    })
}

/// Appends the start of a line, up to where its data begins.
pub(super) fn open(out: &mut Vec<u8>, at: Duration, code: &str) {
    // Writing into a Vec can't fail. Codes are checked, and need no escaping.
    let _ = write!(out, "[{}.{:03},\"{code}\",", at.as_secs(), at.subsec_millis());
}

/// Appends the end of a line.
pub(super) fn close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]\n");
}

/// Appends text as the inside of a JSON string.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some((plain, byte, after)) = split_at_special(rest) {
        out.extend_from_slice(plain);
        rest = after;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
                let (high, low) = (digit(byte >> 4), digit(byte & 15));
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(rest);
}

/// What comes before the first byte that cannot stand in a JSON string, that byte, and the rest.
fn split_at_special(bytes: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let (plain, rest) = bytes.split_at_checked(first_escaped(bytes)?)?;
    let (byte, rest) = rest.split_first()?;
    Some((plain, *byte, rest))
}

/// Output as bytes: in base64, because as text it would be lost.
pub(super) const OUTPUT_BYTES: &str = "ob";
/// Input as bytes.
pub(super) const INPUT_BYTES: &str = "ib";

/// Whether a piece is no text: a file that goes through, an archive, a disk image. Short pieces
/// are what programs print on terminals, which may pad with NUL.
pub(super) fn is_binary(piece: &[u8]) -> bool {
    piece.len() >= 256 && piece.contains(&0)
}

/// Appends bytes as the inside of a JSON string.
pub(super) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + BASE64.encode_len(bytes.len()), 0);
    if let Some(room) = out.get_mut(start..) {
        BASE64.encode_mut(bytes, room);
    }
}

/// A line, as far as it must be understood to tell what it is.
#[derive(Deserialize)]
pub(super) struct Line<'a>(
    f64,
    #[serde(borrow)] pub(super) Cow<'a, str>,
    #[serde(borrow)] pub(super) &'a RawValue,
);

impl Line<'_> {
    /// How long after the start.
    pub(super) fn at(&self) -> Duration {
        // Saturates; not a number becomes zero.
        Duration::from_millis((self.0 * 1000.0).round() as u64)
    }

    /// Its text, when its data is one.
    pub(super) fn text(&self) -> Option<String> {
        serde_json::from_str(self.2.get()).ok()
    }

    /// Its bytes, when its data is some.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        BASE64.decode(self.text()?.as_bytes()).ok()
    }
}

/// Whether a code may be used for events that are not asciicast's. Its own are single letters.
pub(super) fn is_code(code: &str) -> bool {
    (2..=32).contains(&code.len())
        && ![OUTPUT_BYTES, INPUT_BYTES].contains(&code)
        && code.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
        })
}
