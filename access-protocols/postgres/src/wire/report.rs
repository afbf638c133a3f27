//! What a server reports: errors, results, settings.

use super::fields::Fields;

/// The most of a text of the server's that is kept.
const MAX_TEXT: usize = 4096;

/// What an ErrorResponse or a NoticeResponse says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) severity: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Reported {
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// Without what the server says in words of its own, which may repeat what was bound.
    pub(crate) fn without_message(self) -> Self {
        Self { message: "not shown".into(), detail: None, hint: None, ..self }
    }
}

impl std::fmt::Display for Reported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

fn kept(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..MAX_TEXT).unwrap_or(bytes)).into_owned()
}

/// Reads an error as far as it is at hand.
pub(crate) fn reported(body: &[u8]) -> Reported {
    let mut fields = Fields::new(body);
    let mut found = Reported::default();
    while let Some(kind @ 1..) = fields.u8() {
        let (value, _) = fields.text_at_hand();
        match kind {
            // Never translated, and there since 9.6; it comes after the other one.
            b'V' | b'S' => found.severity = kept(value),
            b'C' => found.code = kept(value),
            b'M' => found.message = kept(value),
            b'D' => found.detail = Some(kept(value)),
            b'H' => found.hint = Some(kept(value)),
            _ => {}
        }
    }
    found
}

/// The rows that a command's tag counts: `SELECT 3`, `INSERT 0 1`.
pub(crate) fn rows_of(tag: &str) -> Option<u64> {
    tag.rsplit_once(' ').and_then(|(_, count)| count.parse().ok())
}

/// A setting that the server reports, and its value.
pub(crate) fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields::new(body);
    Some((fields.text()?, fields.text()?))
}

/// The names of a result's columns, at most so many.
pub(crate) fn columns(body: &[u8], most: usize) -> Vec<String> {
    let mut fields = Fields::new(body);
    let count = usize::try_from(fields.i16().unwrap_or(0)).unwrap_or(0);
    let mut names = Vec::new();
    for _ in 0..count.min(most) {
        let Some(name) = fields.text() else { break };
        names.push(kept(name));
        if fields.bytes(18).is_none() {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Failure, encode};

    #[test]
    fn an_error_is_read_as_it_was_written() {
        let failure = Failure::fatal("28000", "no").detail("d").hint("h");
        let bytes = encode::error_response(&failure);
        let read = reported(&bytes[5..]);
        assert!(read.is_fatal());
        assert_eq!((read.code.as_str(), read.message.as_str()), ("28000", "no"));
        assert_eq!((read.detail.as_deref(), read.hint.as_deref()), (Some("d"), Some("h")));
        for cut in 5..bytes.len() {
            let _ = reported(&bytes[5..cut]);
        }
    }

    #[test]
    fn tags_count_rows() {
        for (tag, rows) in [("SELECT 3", Some(3)), ("INSERT 0 1", Some(1)), ("CREATE TABLE", None)]
        {
            assert_eq!(rows_of(tag), rows);
        }
    }
}
