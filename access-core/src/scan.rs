//! Finds what has to be escaped in JSON, eight bytes at a time.

/// Where the first byte is that cannot stand for itself in a string of JSON, if there is one.
pub(crate) fn first_escaped(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks();
    for (n, word) in words.iter().enumerate() {
        if let Some(at) = first_of_eight(*word) {
            return Some(n * 8 + at);
        }
    }
    match bytes.last_chunk() {
        // The rest, together with some that were seen already.
        Some(word) => Some(bytes.len() - 8 + first_of_eight(*word)?),
        None => rest.iter().position(|byte| is_escaped(*byte)),
    }
}

fn first_of_eight(word: [u8; 8]) -> Option<usize> {
    const EACH: u64 = u64::MAX / 0xff;
    let word = u64::from_le_bytes(word);
    // The high bit of a byte of a difference says whether it was less. Only the first that was is
    // sure: what it borrows can make those behind it look as if they were.
    let less = |word: u64, than: u64| word.wrapping_sub(EACH * than);
    let same = |byte: u8| less(word ^ (EACH * u64::from(byte)), 1);
    let marks = (less(word, 0x20) | same(b'"') | same(b'\\')) & !word & (EACH << 7);
    (marks != 0).then(|| marks.trailing_zeros() as usize / 8)
}

/// Appends a text as a string of JSON, as `serde_json` writes it.
pub(crate) fn append_json_string(out: &mut Vec<u8>, text: &str) -> Result<(), serde_json::Error> {
    if first_escaped(text.as_bytes()).is_some() {
        return serde_json::to_writer(out, text);
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Whether a byte cannot stand for itself in a string of JSON.
const fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_found_is_the_first(
            plain in prop::collection::vec(prop_oneof![32_u8..34, 35_u8..92, 93_u8..=255], 0..40),
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\')], 0..40),
        ) {
            let all = [plain, bytes].concat();
            let simple = all.iter().position(|byte| is_escaped(*byte));
            prop_assert_eq!(first_escaped(&all), simple);
        }

        #[test]
        fn strings_are_written_as_serde_json_writes_them(text in any::<String>()) {
            let mut out = b"x".to_vec();
            append_json_string(&mut out, &text).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("x{}", serde_json::to_string(&text).unwrap()));
        }
    }
}
