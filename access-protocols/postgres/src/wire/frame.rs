//! The five bytes before every message.

use super::WireError;

/// The largest message, without its type: what the server itself takes.
const MAX_LARGE: u32 = 0x3fff_ffff;
/// The same for types that are never long.
const MAX_SMALL: u32 = 10_000;

/// A message's type and its whole length in bytes, these five included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) total: usize,
}

impl Head {
    /// The bytes before the body.
    pub(crate) const LEN: usize = 5;

    /// Holds a client's message against the bounds that the server itself has
    /// (`SocketBackend` in `tcop/postgres.c`).
    pub(crate) fn check_client(self) -> Result<Self, WireError> {
        let max = match self.kind {
            b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => MAX_SMALL,
            _ => MAX_LARGE,
        };
        if self.total - 1 > max as usize { Err(self.bad_length()) } else { Ok(self) }
    }

    fn bad_length(self) -> WireError {
        let length = u32::try_from(self.total - 1).unwrap_or(u32::MAX);
        WireError::Length { kind: char::from(self.kind), length }
    }
}

/// The head of the message that starts here; `None` when more bytes are needed.
///
/// # Errors
/// [`WireError::Length`] when no message can be so short, or have so many bytes.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, WireError> {
    let Some(&[kind, a, b, c, d]) = bytes.first_chunk::<5>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if !(4..=0x7fff_ffff).contains(&length) {
        return Err(WireError::Length { kind: char::from(kind), length });
    }
    Ok(Some(Head { kind, total: length as usize + 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_none_can_have_are_refused() {
        for length in [0u32, 3, 0x8000_0000, u32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert_eq!(head(&bytes), Err(WireError::Length { kind: 'Q', length }));
        }
        assert_eq!(head(b"Q\0\0\0"), Ok(None));
        let large = Head { kind: b'Q', total: 0x4000_0000 };
        assert_eq!(large.check_client(), Ok(large));
        assert!(Head { kind: b'Q', total: 0x4000_0001 }.check_client().is_err());
        assert!(Head { kind: b'S', total: 10_002 }.check_client().is_err());
    }
}
