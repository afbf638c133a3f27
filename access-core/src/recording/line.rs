//! The lines of a chunk: asciicast v2, and events of other protocols in the same shape.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::meta::{RecordingMeta, TerminalSize};

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
    while let Some(stop) = rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\') {
        let (plain, tail) = rest.split_at(stop);
        out.extend_from_slice(plain);
        let Some((special, tail)) = tail.split_first() else { return };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
                out.extend_from_slice(&[
                    b'\\',
                    b'u',
                    b'0',
                    b'0',
                    digit(control >> 4),
                    digit(control & 15),
                ]);
            }
        }
        rest = tail;
    }
    out.extend_from_slice(rest);
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

    /// Whether players of asciicast know it.
    pub(super) fn is_cast(&self) -> bool {
        matches!(&*self.1, "o" | "i" | "r" | "m")
    }
}

/// Whether a code may be used for events that are not asciicast's. Its own are single letters.
pub(super) fn is_code(code: &str) -> bool {
    (2..=32).contains(&code.len())
        && code.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
        })
}
