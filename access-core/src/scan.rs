//! Finds bytes, many at a time.

/// Where the first byte is that is sought, if there is one.
pub(crate) fn position(bytes: &[u8], sought: impl Fn(u8) -> bool) -> Option<usize> {
    let mut passed = passed::<32>(bytes, &sought);
    // Most texts are shorter.
    passed += self::passed::<8>(bytes.get(passed..)?, &sought);
    let at = bytes.get(passed..)?.iter().position(|byte| sought(*byte))?;
    Some(passed + at)
}

/// How many bytes come before the first piece of so many that has one that is sought. Compilers
/// make a few instructions of a piece, as long as `sought` does not branch.
fn passed<const PIECE: usize>(bytes: &[u8], sought: &impl Fn(u8) -> bool) -> usize {
    let (pieces, _) = bytes.as_chunks::<PIECE>();
    let none = |piece: &&[u8; PIECE]| !piece.iter().fold(false, |any, byte| any | sought(*byte));
    pieces.iter().take_while(none).count() * PIECE
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
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
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
