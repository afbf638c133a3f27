//! Finds bytes, many at a time.

/// So many are looked at together: compilers make a few instructions of it.
const CHUNK: usize = 32;

/// Where the first byte is that is sought, if there is one.
pub(crate) fn position(bytes: &[u8], sought: impl Fn(u8) -> bool) -> Option<usize> {
    let (chunks, _) = bytes.as_chunks::<CHUNK>();
    let none = |chunk: &&[u8; CHUNK]| !chunk.iter().fold(false, |any, byte| any | sought(*byte));
    let passed = chunks.iter().take_while(none).count() * CHUNK;
    let at = bytes.get(passed..)?.iter().position(|byte| sought(*byte))?;
    Some(passed + at)
}

/// Appends a text as a string of JSON, as `serde_json` writes it.
pub(crate) fn append_json_string(out: &mut Vec<u8>, text: &str) -> Result<(), serde_json::Error> {
    if position(text.as_bytes(), is_escaped).is_some() {
        return serde_json::to_writer(out, text);
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Whether a byte cannot stand for itself in a string of JSON.
pub(crate) const fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_found_is_the_first(bytes in prop::collection::vec(0_u8..64, 0..150), least in 0_u8..70) {
            let simple = bytes.iter().position(|byte| *byte >= least);
            prop_assert_eq!(position(&bytes, |byte| byte >= least), simple);
        }

        #[test]
        fn strings_are_written_as_serde_json_writes_them(text in any::<String>()) {
            let mut out = b"x".to_vec();
            append_json_string(&mut out, &text).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("x{}", serde_json::to_string(&text).unwrap()));
        }
    }
}
