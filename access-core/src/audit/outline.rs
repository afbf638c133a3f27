//! The head of an event, read out of its JSON without reading the event.

use crate::scan::first_escaped;
use crate::time::Timestamp;

/// What a store has to know of an event, borrowed from the line that it stands in.
///
/// It is for whoever receives many events and keeps them as they come: each that
/// [`Outline::read`] takes is one for [`Envelope::from_json`](super::Envelope::from_json) too,
/// which makes values of all fields, if the cluster and the writer that it names are names.
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
    /// twice, very many fields, an escape in the head, or white space between its parts.
    pub fn read(json: &'a [u8]) -> Option<Self> {
        let mut line = Line(std::str::from_utf8(json).ok()?);
        let (mut event, mut code, mut uid, mut time) = (None, None, None, None);
        let (mut cluster_name, mut writer, mut seq, mut user) = (None, None, None, None);
        let mut keys = Keys::with_capacity(32);
        line.object(&mut keys, |key, line| {
            match key {
                "event" => event = Some(line.plain()?),
                "code" => code = Some(line.plain()?),
                "uid" => uid = Some(line.plain()?),
                "time" => time = Some(line.plain()?.parse().ok()?),
                "cluster_name" => cluster_name = Some(line.plain()?),
                "writer" => writer = Some(line.plain()?),
                "seq" => seq = Some(line.number()?.parse().ok()?),
                "user" => user = Some(line.plain()?),
                _ => line.pass(NESTED)?,
            }
            Some(())
        })?;
        code?;
        let (event, uid, time) = (event.filter(|name: &&str| !name.is_empty())?, uid?, time?);
        let (cluster_name, writer, seq) = (cluster_name?, writer?, seq?);
        let done = line.0.is_empty();
        done.then_some(Self { event, uid, time, cluster_name, writer, seq, user, keys })
    }

    /// Whether it has a field.
    pub fn has(&self, key: &str) -> bool {
        self.keys.have(key)
    }
}

/// As deep may objects and lists be within each other.
const NESTED: usize = 16;

/// What is left of a line, from which one part after the other is taken: each method gives `None`
/// where there is no such part, or it is not written as `serde_json` writes it.
struct Line<'a>(&'a str);

impl<'a> Line<'a> {
    /// A text without its quotes; any escapes in it are left as they are.
    fn text(&mut self) -> Option<&'a str> {
        let inside = self.0.strip_prefix('"')?;
        let mut end = 0;
        loop {
            end += first_escaped(inside.as_bytes().get(end..)?)?;
            match inside.as_bytes().get(end..)? {
                [b'"', ..] => break,
                [b'\\', b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => end += 2,
                [b'\\', b'u', digits @ ..] if is_control(digits) => end += 6,
                _ => return None,
            }
        }
        self.0 = inside.get(end + 1..)?;
        inside.get(..end)
    }

    /// A text that has no escapes.
    fn plain(&mut self) -> Option<&'a str> {
        let inside = self.0.strip_prefix('"')?;
        let (text, rest) = inside.split_at_checked(first_escaped(inside.as_bytes())?)?;
        self.0 = rest.strip_prefix('"')?;
        Some(text)
    }

    /// A number, of whatever size.
    fn number(&mut self) -> Option<&'a str> {
        let part = |byte: u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let end = self.0.bytes().position(|byte| !part(byte)).unwrap_or(self.0.len());
        let (number, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        let digits = number.len() < 18 && number.bytes().all(|byte| byte.is_ascii_digit());
        let simple = digits && (number == "0" || matches!(number.as_bytes(), [b'1'..=b'9', ..]));
        (simple || serde_json::from_str::<serde_json::Number>(number).is_ok()).then_some(number)
    }

    /// Whether this comes next; it is taken then.
    fn takes(&mut self, word: &str) -> bool {
        let rest = self.0.strip_prefix(word);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// An object, of which each value is taken by `value`.
    fn object(
        &mut self,
        keys: &mut Keys<'a>,
        mut value: impl FnMut(&'a str, &mut Self) -> Option<()>,
    ) -> Option<()> {
        self.sequence("{", "}", |line| {
            let key = line.plain()?;
            keys.add(key)?;
            line.takes(":").then_some(())?;
            value(key, line)
        })
    }

    fn sequence(
        &mut self,
        begin: &str,
        end: &str,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.takes(begin).then_some(())?;
        if self.takes(end) {
            return Some(());
        }
        loop {
            item(self)?;
            if !self.takes(",") {
                return self.takes(end).then_some(());
            }
        }
    }

    /// A value of which nothing is kept, with so many more within each other at most.
    fn pass(&mut self, nested: usize) -> Option<()> {
        match self.0.as_bytes().first()? {
            b'"' => self.text().map(drop),
            b'{' => {
                let deeper = nested.checked_sub(1)?;
                self.object(&mut Keys::default(), |_, line| line.pass(deeper))
            }
            b'[' => {
                let deeper = nested.checked_sub(1)?;
                self.sequence("[", "]", |line| line.pass(deeper))
            }
            b'n' | b't' | b'f' => {
                ["null", "true", "false"].iter().any(|word| self.takes(word)).then_some(())
            }
            _ => self.number().map(drop),
        }
    }
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

    /// `None` for one that is there already, and for one too many.
    fn add(&mut self, name: &'a str) -> Option<()> {
        if self.have(name) || self.names.len() == Self::MOST {
            return None;
        }
        self.names.push(name);
        self.marks |= mark(name);
        Some(())
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
        fn a_line_with_an_error_is_left_alone_or_means_the_same_to_others(
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..3, "[ -~\\n\u{e9}]"), 1..4),
        ) {
            let good = line(r#""user":"alice","command":"a\n\u0001\"","n":[1,-2.5e3,0,null,true,{"a":[]}]"#);
            let mut text: Vec<char> = good.chars().collect();
            for (at, way, with) in changes {
                let at = at.index(text.len());
                let removed = usize::from(way != 0);
                text.splice(at..at + removed, with.chars().take(usize::from(way != 1)));
            }
            let text: String = text.into_iter().collect();
            if let Some(outline) = Outline::read(text.as_bytes()) {
                let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
                for (key, has) in [
                    ("event", outline.event), ("uid", outline.uid), ("writer", outline.writer),
                    ("cluster_name", outline.cluster_name), ("user", outline.user.unwrap_or_default()),
                ] {
                    prop_assert_eq!(value.get(key).map_or(Some(""), |value| value.as_str()), Some(has));
                }
                prop_assert_eq!(value["seq"].as_u64(), Some(outline.seq));
                prop_assert_eq!(value["time"].as_str().unwrap().parse::<Timestamp>().unwrap(), outline.time);
                prop_assert_eq!(value.len(), outline.keys.names.len());
                prop_assert!(value.keys().all(|key| outline.has(key)));
            }
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
