//! The head of an event, read out of its JSON without reading the event.

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::scan;
use crate::time::Timestamp;

/// What a store has to know of an event, borrowed from the line that it stands in.
///
/// It is for whoever receives many events and keeps them as they come: each that
/// [`Outline::read`] takes is one for [`Envelope::from_json`](super::Envelope::from_json) too,
/// which makes values of all fields.
///
/// ```
/// use access_core::audit::Outline;
/// let line = br#"{"event":"exec","code":"T3002I","time":"2026-01-02T03:04:05Z","uid":"u1",
/// "cluster_name":"example.com","writer":"w1","seq":7,"user":"alice","command":"true"}"#;
/// assert!(Outline::read(line).is_none(), "it has a line's end in it");
/// let line: Vec<u8> = line.iter().copied().filter(|byte| *byte != b'\n').collect();
/// let outline = Outline::read(&line).expect("it is as this project writes them");
/// assert_eq!((outline.event, outline.seq, outline.user), ("exec", 7, Some("alice")));
/// assert!(!outline.has("emitter"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outline<'a> {
    /// The kind of event.
    pub event: &'a str,
    /// Unique among all events, if its writer is honest.
    pub uid: &'a str,
    /// When it was accepted.
    pub time: Timestamp,
    /// The cluster.
    pub cluster_name: &'a str,
    /// Who accepted it.
    pub writer: &'a str,
    /// The how manyeth of the writer's events it is.
    pub seq: u64,
    /// Whom it is about: its field `user`, whatever its kind.
    pub user: Option<&'a str>,
    keys: Keys<'a>,
}

impl<'a> Outline<'a> {
    /// Reads the head of an event; `None` for one that is not written as this project writes them,
    /// although it may be an event all the same: with another escape for a character, a field
    /// twice, very many fields, an escape in the head, or a line's end.
    pub fn read(json: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(json).ok()?;
        if !is_canonical(json) || !text.ends_with('}') {
            return None;
        }
        serde_json::from_str(text).ok()
    }

    /// Whether it has a field.
    pub fn has(&self, key: &str) -> bool {
        self.keys.have(key)
    }
}

/// Whether all of it stands in one line, with the escapes that `serde_json` writes and no other.
fn is_canonical(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = scan::position(rest, |byte| byte < 0x20 || byte == b'\\') {
        let Some([b'\\', escape, after @ ..]) = rest.get(at..) else { return false };
        match escape {
            b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => {}
            b'u' if is_control(after) => {}
            _ => return false,
        }
        rest = after;
    }
    true
}

/// Whether the digits after `\u` are of a character that has no shorter escape and needs one.
fn is_control(digits: &[u8]) -> bool {
    let Some([b'0', b'0', high @ (b'0' | b'1'), low @ (b'0'..=b'9' | b'a'..=b'f')]) =
        digits.get(..4)
    else {
        return false;
    };
    *high == b'1' || !matches!(low, b'8' | b'9' | b'a' | b'c' | b'd')
}

impl<'de: 'a, 'a> Deserialize<'de> for Outline<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Head)
    }
}

struct Head;

impl<'de> Visitor<'de> for Head {
    type Value = Outline<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an audit event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut event, mut code, mut uid, mut time) = (None, None, None, None);
        let (mut cluster_name, mut writer, mut seq, mut user) = (None, None, None, None);
        let mut keys = Keys::with_capacity(32);
        while let Some(key) = map.next_key::<&'de str>()? {
            keys.add(key)?;
            match key {
                "event" => event = Some(map.next_value::<&str>()?),
                "code" => code = Some(map.next_value::<&str>()?),
                "uid" => uid = Some(map.next_value()?),
                "time" => time = Some(map.next_value()?),
                "cluster_name" => cluster_name = Some(map.next_value()?),
                "writer" => writer = Some(map.next_value()?),
                "seq" => seq = Some(map.next_value()?),
                "user" => user = Some(map.next_value()?),
                _ => map.next_value_seed(Passed)?,
            }
        }
        let missing = de::Error::missing_field;
        code.ok_or_else(|| missing("code"))?;
        Ok(Outline {
            event: event.filter(|name| !name.is_empty()).ok_or_else(|| missing("event"))?,
            uid: uid.ok_or_else(|| missing("uid"))?,
            time: time.ok_or_else(|| missing("time"))?,
            cluster_name: cluster_name.ok_or_else(|| missing("cluster_name"))?,
            writer: writer.ok_or_else(|| missing("writer"))?,
            seq: seq.ok_or_else(|| missing("seq"))?,
            user,
            keys,
        })
    }
}

/// The fields of one object. They are few: a list, which is looked through only for a name that may
/// be in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Keys<'a> {
    names: Vec<&'a str>,
    /// The marks of all names.
    marks: u64,
}

impl<'a> Keys<'a> {
    /// The most fields that one object may have.
    const MOST: usize = 128;

    fn with_capacity(count: usize) -> Self {
        Self { names: Vec::with_capacity(count), marks: 0 }
    }

    fn add<E: de::Error>(&mut self, name: &'a str) -> Result<(), E> {
        if self.have(name) {
            return Err(E::custom("a field twice"));
        }
        if self.names.len() == Self::MOST {
            return Err(E::custom("very many fields"));
        }
        self.names.push(name);
        self.marks |= mark(name);
        Ok(())
    }

    fn have(&self, name: &str) -> bool {
        self.marks & mark(name) != 0 && self.names.contains(&name)
    }
}

/// One bit; names that differ mostly have different ones.
fn mark(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let edge = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or_default());
    let sum = bytes.len() * 7 + edge(bytes.first()) * 5 + edge(bytes.last()) * 11;
    1 << (sum % 64)
}

/// Reads a value and keeps nothing of it. Unlike [`de::IgnoredAny`] it looks into texts and
/// numbers: what passes can be read.
struct Passed;

impl<'de> DeserializeSeed<'de> for Passed {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Passed {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Passed)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = Keys::default();
        while let Some(key) = map.next_key::<&'de str>()? {
            keys.add(key)?;
            map.next_value_seed(Passed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::Envelope;

    const HEAD: &str = r#""event":"exec","code":"T3002I","time":"2026-01-02T03:04:05Z","uid":"u1","cluster_name":"example.com","writer":"w1","seq":7"#;

    fn line(rest: &str) -> String {
        format!("{{{HEAD},{rest}}}")
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_the_reader_of_events() {
        let good = line(r#""user":"alice","command":"a\n\u0001\"\\","n":[1,-2,0.5,null,true,{}]"#);
        let outline = Outline::read(good.as_bytes()).unwrap();
        assert_eq!((outline.event, outline.user, outline.seq), ("exec", Some("alice"), 7));
        assert!(outline.has("command") && outline.has("seq") && !outline.has("emitter"));
        for other in [
            r#""a":"\u0061""#,
            r#""a":"\u000a""#,
            r#""a":"\u001F""#,
            r#""a":"\/""#,
            r#""a":"\ud800""#,
            r#""\u0061":1"#,
            r#""a\n":1"#,
            r#""a":1,"a":2"#,
            r#""a":{"b":1,"b":2}"#,
            r#""user":"al\"ice""#,
            r#""user":7"#,
            r#""seq":8"#,
            r#""a":1e999"#,
            "\"a\":\n1",
            "\"a\":\"\u{7}\"",
        ] {
            assert_eq!(Outline::read(line(other).as_bytes()), None, "{other}");
        }
        for bad in ["", "{}", "[]", &HEAD[..20], &format!("{good} "), &format!("{good}}}")] {
            assert_eq!(Outline::read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Outline::read(b"{\"a\":\"\xff\"}"), None);
        let fields =
            |count: usize| (0..count).map(|n| format!("\"x{n}\":1")).collect::<Vec<_>>().join(",");
        assert!(Outline::read(line(&fields(Keys::MOST - 7)).as_bytes()).is_some());
        assert_eq!(Outline::read(line(&fields(Keys::MOST - 6)).as_bytes()), None);
        assert_eq!(Outline::read(line(&format!(r#""a":{}"#, "[".repeat(500))).as_bytes()), None);
    }

    #[test]
    fn no_field_of_the_head_may_be_missing() {
        for key in ["event", "code", "time", "uid", "cluster_name", "writer", "seq"] {
            let json = line(r#""a":1"#).replace(&format!("\"{key}\""), "\"x\"");
            assert_eq!(Outline::read(json.as_bytes()), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn what_it_takes_is_an_event_and_stays_the_same(
            key in "[a-z.]{1,6}", value in any::<String>(), number in any::<f64>(), quoted in any::<bool>(),
        ) {
            let value = if quoted {
                serde_json::to_string(&value).unwrap()
            } else {
                serde_json::to_string(&number).unwrap()
            };
            let json = line(&format!("\"x{key}\":{value},\"user\":\"bob\""));
            let outline = Outline::read(json.as_bytes()).unwrap();
            let read = Envelope::from_json(json.as_bytes()).unwrap();
            prop_assert_eq!(outline.seq, read.seq);
            prop_assert_eq!(outline.time, read.time);
            prop_assert_eq!(outline.event, read.event.name());
        }

        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Outline::read(&bytes);
        }

        #[test]
        fn whatever_it_takes_can_be_read(rest in "[\\[\\]{}\",:a0.\\\\ue\\-+ ]{0,24}") {
            let json = line(&format!("\"x\":{rest}"));
            if Outline::read(json.as_bytes()).is_some() {
                prop_assert!(Envelope::from_json(json.as_bytes()).is_ok(), "{}", json);
            }
        }
    }
}
