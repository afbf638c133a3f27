//! Texts that others chose: bounded when they are made, and marked where they were cut.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Room for the mark that says how much is missing.
const MARK_ROOM: usize = 32;

/// A text of at most `MAX` bytes.
///
/// Whatever a stranger sends (a login that does not exist, a command, a path, an error of a
/// library that quotes either) gets into an event only as a `Text`: a longer one is cut on a
/// character's boundary and ends in a mark such as `…(+1234 bytes)`, so that a reader never takes
/// the part for the whole. Control characters are kept and escaped by JSON; [`fmt::Display`]
/// escapes them too, so that printing a text can't drive somebody's terminal. Escaped it has at
/// most twice `MAX` bytes: a text that is made of little else is cut earlier, so that nobody can
/// write one that fits and whose event does not.
///
/// ```
/// use access_core::audit::Text;
/// let text: Text<64> = Text::from("x".repeat(1000));
/// assert!(text.as_str().len() <= 64 && text.as_str().ends_with("…(+968 bytes)"));
/// let bell: Text = "ding\u{7}".into();
/// assert_eq!(bell.to_string(), "ding\\u{7}");
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MAX: usize = 4096>(String);

impl<const MAX: usize> Text<MAX> {
    const ROOM: usize = {
        assert!(MAX >= 2 * MARK_ROOM, "a text must have room for the mark of its truncation");
        MAX - MARK_ROOM
    };

    /// The text of anything printable; at most `MAX` bytes are kept while it prints.
    ///
    /// ```
    /// use access_core::audit::Text;
    /// let text: Text = Text::of(std::net::Ipv4Addr::LOCALHOST);
    /// assert_eq!(text.as_str(), "127.0.0.1");
    /// ```
    pub fn of(value: impl fmt::Display) -> Self {
        let mut sink = Bounded { text: String::new(), dropped: 0, max: MAX };
        // The sink takes everything, so only the value's own Display can fail; what it printed
        // until then is the best there is.
        let _ = write!(sink, "{value}");
        Self::cut(sink.text, sink.dropped)
    }

    /// The text of bytes that may be no UTF-8: what is none becomes U+FFFD.
    ///
    /// ```
    /// use access_core::audit::Text;
    /// let text: Text = Text::lossy(b"caf\xe9");
    /// assert_eq!(text.as_str(), "caf\u{fffd}");
    /// ```
    pub fn lossy(bytes: &[u8]) -> Self {
        let kept = bytes.get(..MAX).unwrap_or(bytes);
        // Nearly all is UTF-8, which is seen faster than what is none is replaced.
        let text = match std::str::from_utf8(kept) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(kept).into_owned(),
        };
        Self::cut(text, bytes.len() - kept.len())
    }

    /// The text, as it was given: control characters are in it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn cut(mut text: String, already_dropped: usize) -> Self {
        let fits = |text: &str| text.len() <= MAX / LONGEST_ESCAPE || escaped(text) <= 2 * MAX;
        if text.len() <= MAX && already_dropped == 0 && fits(&text) {
            return Self(text);
        }
        let keep = boundary(&text, Self::ROOM.min(escaped_within(&text, 2 * Self::ROOM)));
        let dropped = text.len() - keep + already_dropped;
        text.truncate(keep);
        // Writing into a String can't fail.
        let _ = write!(text, "…(+{dropped} bytes)");
        text.shrink_to_fit();
        Self(text)
    }
}

/// By how much a character can grow in JSON beyond twice its size: `\u001f` is six for one.
const LONGEST_ESCAPE: usize = 3;

/// How long a byte of a text is in a JSON string.
const fn escaped_byte(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 0x08 | 0x09 | 0x0a | 0x0c | 0x0d => 2,
        0..=0x1f => 6,
        _ => 1,
    }
}

fn escaped(text: &str) -> usize {
    text.bytes().map(escaped_byte).sum()
}

/// How many bytes of a text have at most `max` in a JSON string.
fn escaped_within(text: &str, max: usize) -> usize {
    let lengths = text.bytes().scan(0, |sum, byte| {
        *sum += escaped_byte(byte);
        Some(*sum)
    });
    lengths.take_while(|sum| *sum <= max).count()
}

/// The last boundary between characters that is not behind `max`.
fn boundary(text: &str, max: usize) -> usize {
    let mut at = max.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

struct Bounded {
    text: String,
    dropped: usize,
    max: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = if self.dropped > 0 { 0 } else { self.max.saturating_sub(self.text.len()) };
        let keep = boundary(part, room);
        self.text.push_str(part.get(..keep).unwrap_or_default());
        self.dropped += part.len() - keep;
        Ok(())
    }
}

impl<const MAX: usize> From<String> for Text<MAX> {
    fn from(text: String) -> Self {
        Self::cut(text, 0)
    }
}

impl<const MAX: usize> From<&str> for Text<MAX> {
    fn from(text: &str) -> Self {
        let keep = boundary(text, MAX);
        Self::cut(text.get(..keep).unwrap_or_default().to_owned(), text.len() - keep)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> PartialEq<str> for Text<MAX> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl<const MAX: usize> PartialEq<&str> for Text<MAX> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// A bounded list of bounded texts: at most 128 of at most 256 bytes.
///
/// The last one of a longer list says how many are missing.
///
/// ```
/// use access_core::audit::List;
/// let roles: List = ["access", "editor"].into_iter().collect();
/// assert_eq!(roles.iter().next(), Some("access"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct List(Vec<Text<256>>);

impl List {
    /// The most items that a list keeps.
    pub const MAX: usize = 128;

    /// The texts in it.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Text::as_str)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: AsRef<str>> FromIterator<T> for List {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut texts = texts.into_iter();
        let mut kept: Vec<Text<256>> =
            texts.by_ref().take(Self::MAX).map(|text| text.as_ref().into()).collect();
        let missing = texts.count();
        if missing > 0
            && let Some(last) = kept.last_mut()
        {
            *last = Text::of(format_args!("…(+{} more)", missing + 1));
        }
        Self(kept)
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Ok(texts.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_are_bounded_and_marked(text in "\\PC{0,200}") {
            let made: Text<64> = text.as_str().into();
            prop_assert!(made.as_str().len() <= 64);
            prop_assert_eq!(made.as_str() == text, text.len() <= 64 && escaped(&text) <= 128);
            prop_assert_eq!(&made, &Text::<64>::from(text.clone()));
            prop_assert_eq!(&made, &Text::<64>::of(&text));
            prop_assert_eq!(&made, &Text::<64>::from(made.as_str()), "bounding twice changes nothing");
        }

        #[test]
        fn texts_are_bounded_in_json_too(text in "[\0-\u{1f}\"\\\\aé]{0,300}") {
            let made: Text<128> = text.as_str().into();
            let json = serde_json::to_string(&made).unwrap();
            prop_assert!(json.len() <= 2 * 128 + 2, "{json}");
            prop_assert_eq!(made.as_str() == text, text.len() <= 128 && escaped(&text) <= 256);
            prop_assert_eq!(json.len(), escaped(made.as_str()) + 2);
            prop_assert_eq!(&made, &Text::<128>::from(made.as_str()));
            prop_assert_eq!(&made, &Text::<128>::of(&text));
        }

        #[test]
        fn bytes_are_bounded(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Text::<64>::lossy(&bytes).as_str().len() <= 64);
        }
    }

    #[test]
    fn long_lists_say_how_many_are_missing() {
        let list: List = (0..200).map(|n| n.to_string()).collect();
        assert_eq!(list.iter().count(), List::MAX);
        assert_eq!(list.iter().last(), Some("…(+73 more)"));
    }
}
