//! Bytes that should be UTF-8, arriving in pieces cut anywhere.

/// Turns a stream of bytes into text: what is no UTF-8 becomes U+FFFD, and a character whose last
/// bytes have not arrived yet waits for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Utf8Stream {
    /// The start of a character, at most three bytes of it.
    pending: [u8; 4],
    len: usize,
}

const REPLACEMENT: &str = "\u{fffd}";

impl Utf8Stream {
    /// Hands the text of some more bytes to `emit`, in pieces.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(&str)) {
        while self.len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return };
            if let Some(slot) = self.pending.get_mut(self.len) {
                *slot = byte;
            }
            let candidate = self.pending.get(..=self.len).unwrap_or_default();
            match std::str::from_utf8(candidate) {
                Ok(text) => {
                    emit(text);
                    self.len = 0;
                    bytes = rest;
                }
                Err(error) if error.error_len().is_none() => {
                    self.len += 1;
                    bytes = rest;
                }
                // The byte doesn't continue what waited: that was a fragment, and the byte is
                // looked at again as a start.
                Err(_) => {
                    emit(REPLACEMENT);
                    self.len = 0;
                }
            }
        }
        // Nearly all of it is whole, which is seen faster than what is not is taken apart.
        if let Ok(text) = std::str::from_utf8(bytes) {
            if !text.is_empty() {
                emit(text);
            }
            return;
        }
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            if !chunk.valid().is_empty() {
                emit(chunk.valid());
            }
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            let incomplete = chunks.peek().is_none()
                && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if incomplete {
                for (slot, byte) in self.pending.iter_mut().zip(invalid) {
                    *slot = *byte;
                }
                self.len = invalid.len();
            } else {
                emit(REPLACEMENT);
            }
        }
    }

    /// The stream ended: a character that was never completed becomes U+FFFD.
    pub(super) fn end(&mut self, mut emit: impl FnMut(&str)) {
        if self.len > 0 {
            emit(REPLACEMENT);
            self.len = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_pieces(pieces: &[&[u8]]) -> String {
        let mut stream = Utf8Stream::default();
        let mut text = String::new();
        for piece in pieces {
            stream.feed(piece, |part| text.push_str(part));
        }
        stream.end(|part| text.push_str(part));
        text
    }

    #[test]
    fn a_character_waits_for_its_rest() {
        let mut stream = Utf8Stream::default();
        stream.feed(&[0xf0, 0x9f], |_| panic!("nothing is complete"));
        stream.feed(&[0x92], |_| panic!("nothing is complete"));
        let mut text = String::new();
        stream.feed(&[0xa9, b'!'], |part| text.push_str(part));
        assert_eq!(text, "\u{1f4a9}!");
    }

    proptest! {
        #[test]
        fn pieces_make_the_text_of_the_whole(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(0xe2), Just(0x82), Just(0xac), Just(0xf0)], 0..60),
            cuts in prop::collection::vec(0_usize..60, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut from = 0;
            let mut pieces = Vec::new();
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(by_pieces(&pieces), String::from_utf8_lossy(&bytes));
        }
    }
}
