//! The lines of the spool's files.
//!
//! ```text
//! segment   crc number origin json LF     origin: the stranger's event that it was, or -
//! ring      crc number -      json LF
//! ```
//! `crc` is the CRC-32C in hexadecimal of everything between it and the line's end.

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
        let origin = self.origin.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let head = format!(" {} {origin} ", self.number);
        let crc = crc32c::crc32c_append(crc32c::crc32c(head.as_bytes()), self.json);
        let mut line = format!("{crc:08x}{head}").into_bytes();
        line.extend_from_slice(self.json);
        line.push(b'\n');
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
        let end = rest.iter().position(|byte| *byte == b'\n')?;
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
