//! The lines of the spool's files.
//!
//! ```text
//! segment   crc number origin json LF     origin: the stranger's event that it was, or -
//! ring      crc number -      json LF
//! ```
//! `crc` is the CRC-32C in hexadecimal of everything between it and the line's end.

use std::io::Write as _;
use std::ops::Range;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) number: u64,
    /// The number in the ring that it had.
    pub(super) origin: Option<u64>,
    pub(super) json: &'a [u8],
}

impl<'a> Line<'a> {
    /// The line's bytes, with its end.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.json.len() + 64);
        let json = |out: &mut Vec<u8>| {
            out.extend_from_slice(self.json);
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(_) = append_line(&mut line, self.number, self.origin, json);
        line
    }

    /// Reads a line, given without its end. `None` when it is torn or damaged.
    pub(super) fn decode(line: &'a [u8]) -> Option<Self> {
        let (crc, rest) = line.split_at_checked(8)?;
        let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
        if crc != crc32c::crc32c(rest) {
            return None;
        }
        let mut parts = rest.strip_prefix(b" ")?.splitn(3, |byte| *byte == b' ');
        let number = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let origin = match parts.next()? {
            b"-" => None,
            number => Some(std::str::from_utf8(number).ok()?.parse().ok()?),
        };
        Some(Self { number, origin, json: parts.next()? })
    }
}

/// The bytes that the sum at a line's beginning takes.
const CRC: usize = 8;

/// Appends a line with its end to others, and says where in all of them its JSON is. The JSON is
/// written where it stays: events are many, and each copy of one counts.
///
/// # Errors
/// What `json` says; a part of the line is there then.
pub(super) fn append_line<E>(
    out: &mut Vec<u8>,
    number: u64,
    origin: Option<u64>,
    json: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Range<usize>, E> {
    let start = out.len();
    out.extend_from_slice(&[b'0'; CRC]);
    // Writing into a Vec can't fail.
    let _ = match origin {
        Some(origin) => write!(out, " {number} {origin} "),
        None => write!(out, " {number} - "),
    };
    let begin = out.len();
    json(out)?;
    let end = out.len();
    if let Some((mut sum, rest)) = out.get_mut(start..).and_then(|l| l.split_at_mut_checked(CRC)) {
        let _ = write!(sum, "{:08x}", crc32c::crc32c(rest));
    }
    out.push(b'\n');
    Ok(begin..end)
}

/// What is found in a file.
pub(super) enum Found<'a> {
    /// A line, and where the next one begins.
    Line(Line<'a>, usize),
    /// A whole line that is damaged, and where the next one begins.
    Damaged(usize),
}

/// The lines of a file's bytes, until what is left is no whole line.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..)?;
        let end = memchr::memchr(b'\n', rest)?;
        at += end + 1;
        Some(match Line::decode(rest.get(..end)?) {
            Some(line) => Found::Line(line, at),
            None => Found::Damaged(at),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_and_damage_is_seen() {
        for origin in [None, Some(7)] {
            let line = Line { number: 41, origin, json: b"{\"a\":\"b c\"}" };
            let bytes = line.encode();
            assert_eq!(Line::decode(&bytes[..bytes.len() - 1]), Some(line));
            for at in 0..bytes.len() - 1 {
                let mut bad = bytes[..bytes.len() - 1].to_vec();
                bad[at] ^= 0x20;
                // Hexadecimal digits read the same in either case.
                if !(at < 8 && bytes[at].is_ascii_alphabetic()) {
                    assert_eq!(Line::decode(&bad), None, "byte {at}");
                }
                assert_eq!(Line::decode(&bytes[..at]), None, "cut at {at}");
            }
        }
    }
}
