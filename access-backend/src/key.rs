//! Keys are paths: `/users/danielle`. They order as the bytes of their UTF-8.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The most bytes that a key, or a prefix, may have.
pub const MAX_KEY_BYTES: usize = 1024;

/// The name of a row: `/` before each of one or more segments.
///
/// A segment is not empty, is neither `.` nor `..`, and holds neither `/` nor a control character. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

impl Key {
    /// Reads a whole path.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a segment is malformed, [`Error::TooLarge`] past [`MAX_KEY_BYTES`].
    pub fn parse(path: &str) -> Result<Self, Error> {
        if is_plain(path) {
            return Ok(Self(path.into()));
        }
        Self::parse_any(path)
    }

    /// Reads any path, a segment at a time, and says what is wrong with one.
    fn parse_any(path: &str) -> Result<Self, Error> {
        let rest = path.strip_prefix('/').ok_or_else(|| {
            Error::invalid("key", format!("{path:?} does not begin with a slash"))
        })?;
        let mut len = 0;
        for segment in rest.split('/') {
            len = check(segment, len)?;
        }
        Ok(Self(path.into()))
    }

    /// Puts a path together from its segments.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a segment is malformed or there is none, [`Error::TooLarge`] past
    /// [`MAX_KEY_BYTES`].
    pub fn from_segments<S: AsRef<str>>(
        segments: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        let path = build(segments)?;
        if path.is_empty() {
            return Err(Error::invalid("key", "it has no segment"));
        }
        Ok(Self(path.into()))
    }

    /// The key one segment below this one.
    ///
    /// # Errors
    /// As [`Key::from_segments`].
    pub fn join(&self, segment: &str) -> Result<Self, Error> {
        Self::from_segments(self.segments().chain([segment]))
    }

    /// The prefix of all keys below this one, which it is not among itself.
    pub fn children(&self) -> Prefix {
        Prefix(format!("{}/", self.0).into())
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, first to last.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.strip_prefix('/').unwrap_or_default().split('/')
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Every prefix that covers this key, from `/` on.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..=at))
    }
}

/// All keys below a path. It ends at the boundary of a segment: `/users/` covers `/users/danielle` and not `/users-old`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// The prefix of every key.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The prefix of the keys below these segments; of every key, where there is none.
    ///
    /// # Errors
    /// As [`Key::from_segments`].
    pub fn from_segments<S: AsRef<str>>(
        segments: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        let mut path = build(segments)?;
        path.push('/');
        Ok(Self(path.into()))
    }

    /// Reads a path, with or without the last slash.
    ///
    /// # Errors
    /// As [`Key::parse`].
    pub fn parse(path: &str) -> Result<Self, Error> {
        if path == "/" {
            return Ok(Self::root());
        }
        Ok(Key::parse(path.strip_suffix('/').unwrap_or(path))?.children())
    }

    /// The key of this name directly below.
    ///
    /// # Errors
    /// As [`Key::from_segments`].
    pub fn key(&self, segment: &str) -> Result<Key, Error> {
        let above = self.0.split('/').filter(|part| !part.is_empty());
        Key::from_segments(above.chain([segment]))
    }

    /// Whether `key` is below this path.
    pub fn covers(&self, key: &Key) -> bool {
        key.0.starts_with(&*self.0)
    }

    /// The path with its last slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `prefixes` in order, without those that another one covers: no key matches two of what is left.
    pub fn disjoint(prefixes: &[Self]) -> Vec<Self> {
        let mut kept: Vec<Self> = Vec::new();
        let mut sorted = prefixes.to_vec();
        sorted.sort();
        for prefix in sorted {
            if !kept.last().is_some_and(|last| prefix.0.starts_with(&*last.0)) {
                kept.push(prefix);
            }
        }
        kept
    }
}

/// A half-open interval of keys: from the first, up to and without the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Arc<str>,
    end: Option<Arc<str>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self { start: "".into(), end: None }
    }

    /// From `from` on, without an end.
    pub fn starting_at(from: &Key) -> Self {
        Self { start: from.0.clone(), end: None }
    }

    /// The first key of the range, or a text that orders before it.
    pub fn start(&self) -> &str {
        &self.start
    }

    /// What the keys of the range come before.
    pub fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// Whether the range holds `key`.
    pub fn contains(&self, key: &Key) -> bool {
        *key.0 >= *self.start && self.end.as_ref().is_none_or(|end| *key.0 < **end)
    }

    /// The part of the range after `key`; for engines.
    pub fn after(&self, key: &str) -> Self {
        // No key orders between `key` and `key` with a NUL, which no key may hold.
        let next = format!("{key}\0");
        let start = if *next > *self.start { next.into() } else { self.start.clone() };
        Self { start, end: self.end.clone() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

impl From<Range<Key>> for KeyRange {
    fn from(range: Range<Key>) -> Self {
        Self { start: range.start.0, end: Some(range.end.0) }
    }
}

impl From<&Prefix> for KeyRange {
    fn from(prefix: &Prefix) -> Self {
        // A prefix ends with a slash, and '0' is the character after it.
        let end = prefix.0.strip_suffix('/').map(|path| format!("{path}0").into());
        Self { start: prefix.0.clone(), end }
    }
}

impl From<Prefix> for KeyRange {
    fn from(prefix: Prefix) -> Self {
        Self::from(&prefix)
    }
}

// Sound: both types compare and hash as the text that they hold.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Prefix {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = Error;
    fn from_str(path: &str) -> Result<Self, Error> {
        Self::parse(path)
    }
}

impl TryFrom<String> for Key {
    type Error = Error;
    fn try_from(path: String) -> Result<Self, Error> {
        Self::parse(&path)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0.as_ref().to_owned()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Whether it is certainly a key: most are of ASCII, and are read in one go. Of what begins a segment with a dot
/// nothing is said.
fn is_plain(path: &str) -> bool {
    let mut before = 0;
    let sound = path.bytes().all(|byte| {
        let after_slash = before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        matches!(byte, b' '..=b'~') && !after_slash
    });
    sound && path.starts_with('/') && before != b'/' && path.len() < MAX_KEY_BYTES
}

fn build<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Result<String, Error> {
    let mut path = String::new();
    for segment in segments {
        let segment = segment.as_ref();
        check(segment, path.len())?;
        path.push('/');
        path.push_str(segment);
    }
    Ok(path)
}

/// The length of a path of `len` bytes with this segment at its end.
fn check(segment: &str, len: usize) -> Result<usize, Error> {
    let bad = match segment {
        "" => Some("is empty"),
        "." | ".." => Some("is a relative path"),
        text if text.contains('/') => Some("contains a slash"),
        text if text.chars().any(char::is_control) => Some("contains a control character"),
        _ => None,
    };
    if let Some(why) = bad {
        let shown: String = segment.chars().take(64).collect();
        return Err(Error::invalid("key", format!("segment {shown:?} {why}")));
    }
    // The slash that makes a prefix of it counts too, so that every key has one.
    let len = len + 1 + segment.len();
    if len >= MAX_KEY_BYTES {
        return Err(Error::TooLarge { what: "key in bytes", size: len, limit: MAX_KEY_BYTES - 1 });
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_built_from_segments_and_read_back() {
        let key = Key::from_segments(["users", "daniëlle@example.com"]).unwrap();
        assert_eq!(key.as_str(), "/users/daniëlle@example.com");
        assert_eq!(Key::parse(key.as_str()).unwrap(), key);
        assert_eq!(key.segments().collect::<Vec<_>>(), ["users", "daniëlle@example.com"]);
        assert_eq!(key.name(), "daniëlle@example.com");
        assert_eq!(key.join("mfa").unwrap().as_str(), "/users/daniëlle@example.com/mfa");
    }

    #[test]
    fn malformed_keys_are_refused() {
        for bad in ["", "/", "users", "//a", "/a/", "/a//b", "/a/../b", "/.", "/a\0b", "/a\nb"] {
            assert!(matches!(Key::parse(bad), Err(Error::Invalid { .. })), "{bad:?}");
        }
        assert!(matches!(Key::from_segments(["a/b"]), Err(Error::Invalid { .. })));
        assert!(matches!(Key::from_segments(Vec::<&str>::new()), Err(Error::Invalid { .. })));
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_in_one_go_is_read_a_segment_at_a_time_too(
            path in "[/.a ~\u{7f}\u{0}\u{1f}\u{80}é]{0,12}",
            long in "(/[a-z.]{1,300}){1,6}",
        ) {
            for path in [path, long] {
                proptest::prop_assert_eq!(Key::parse(&path), Key::parse_any(&path));
            }
        }

        #[test]
        fn what_is_plain_is_read_in_one_go(path in "(/[a-z0-9@-][a-z0-9@.-]{0,20}){1,5}") {
            proptest::prop_assert!(is_plain(&path));
        }
    }

    #[test]
    fn the_bound_is_exact() {
        let longest = "x".repeat(MAX_KEY_BYTES - 2);
        assert_eq!(
            Key::from_segments([&longest]).unwrap().children().as_str().len(),
            MAX_KEY_BYTES
        );
        assert!(matches!(Key::from_segments([format!("{longest}x")]), Err(Error::TooLarge { .. })));
        assert!(Key::parse(&format!("/{longest}")).is_ok());
        assert!(matches!(Key::parse(&format!("/{longest}x")), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let users = Prefix::from_segments(["users"]).unwrap();
        let range = KeyRange::from(&users);
        for (path, inside) in [
            ("/users/a", true),
            ("/users/a/b", true),
            ("/users/\u{10ffff}", true),
            ("/users", false),
            ("/users-old", false),
            ("/users0", false),
        ] {
            let key = Key::parse(path).unwrap();
            assert_eq!(users.covers(&key), inside, "{path}");
            assert_eq!(range.contains(&key), inside, "{path}");
            assert_eq!(key.ancestors().any(|above| above == "/users/"), inside, "{path}");
        }
        assert_eq!(Prefix::parse("/users").unwrap(), users);
        assert_eq!(Prefix::parse("/").unwrap(), Prefix::root());
        assert!(KeyRange::from(Prefix::root()).contains(&Key::parse("/a").unwrap()));
    }

    #[test]
    fn covered_prefixes_are_dropped() {
        let of =
            |paths: &[&str]| paths.iter().map(|p| Prefix::parse(p).unwrap()).collect::<Vec<_>>();
        assert_eq!(
            Prefix::disjoint(&of(&["/b/c", "/a", "/b", "/a", "/b2"])),
            of(&["/a", "/b", "/b2"])
        );
        assert_eq!(Prefix::disjoint(&of(&["/b", "/"])), of(&["/"]));
    }
}
