//! An event with when, where and in which order: what is stored and sent.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::events::Event;
use super::text::Text;
use crate::ids::{ClusterName, WriterId};
use crate::scan::append_json_string;
use crate::time::Timestamp;

/// An event as it is stored and sent: one JSON object.
///
/// `writer` and `seq` order it: `writer` is the spool (or Auth replica) that accepted it, `seq`
/// counts that writer's events from 1 without holes, so that a reader knows what is missing. `uid`
/// follows from both, so that an event that is delivered twice is known as one.
///
/// Reading never fails for a kind, a code or a field that this version does not know: they are
/// kept and written again.
///
/// ```
/// use access_core::audit::{Envelope, Event};
/// let line = r#"{"event":"lunar.landing","code":"TZZ00I","time":"2026-01-02T03:04:05Z",
///     "uid":"u1","cluster_name":"example.com","writer":"w1","seq":7,"crew":3}"#;
/// let envelope: Envelope = serde_json::from_str(line)?;
/// assert!(matches!(envelope.event, Event::Unknown(_)));
/// assert_eq!(serde_json::to_value(&envelope)?["crew"], 3);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Unique among all events.
    pub uid: Text<256>,
    /// When it was accepted.
    pub time: Timestamp,
    /// The cluster.
    pub cluster_name: ClusterName,
    /// Who accepted it.
    pub writer: WriterId,
    /// The how manyeth of the writer's events it is, from 1.
    pub seq: u64,
    /// What happened.
    pub event: Event,
    /// Fields of a known kind that this version does not know.
    pub extra: Map<String, Value>,
}

/// As much as most events take, so that writing one seldom moves it.
const TYPICAL_BYTES: usize = 1024;

/// A text that is no event.
#[derive(Debug, thiserror::Error)]
#[error("not an audit event: {0}")]
pub struct EnvelopeError(#[from] serde_json::Error);

impl Envelope {
    /// Its one line of JSON, without the line's end.
    ///
    /// # Errors
    /// [`EnvelopeError`] when a field can't be written as JSON; those defined here can.
    pub fn to_json(&self) -> Result<Vec<u8>, EnvelopeError> {
        let mut json = Vec::with_capacity(TYPICAL_BYTES);
        self.append_json(&mut json)?;
        Ok(json)
    }

    /// Appends the same to what is there.
    ///
    /// # Errors
    /// As [`Envelope::to_json`]; a part may have been appended then.
    pub fn append_json(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let Self { uid, time, cluster_name, writer, seq, event, extra } = self;
        let (uid, time, seq) = (uid.as_str(), *time, *seq);
        Stamp { uid, time, cluster_name, writer, seq }.append_json(event, extra, out)
    }

    /// Reads an event.
    ///
    /// # Errors
    /// [`EnvelopeError`] when the bytes are no JSON object or lack what every envelope has.
    pub fn from_json(json: &[u8]) -> Result<Self, EnvelopeError> {
        Ok(serde_json::from_slice(json)?)
    }
}

/// What an envelope adds to an event.
pub(super) struct Stamp<'a> {
    pub(super) uid: &'a str,
    pub(super) time: Timestamp,
    pub(super) cluster_name: &'a ClusterName,
    pub(super) writer: &'a WriterId,
    pub(super) seq: u64,
}

impl Stamp<'_> {
    /// Appends the line of JSON of an event with this stamp.
    pub(super) fn append_json(
        &self,
        event: &Event,
        extra: &Map<String, Value>,
        out: &mut Vec<u8>,
    ) -> Result<(), EnvelopeError> {
        out.extend_from_slice(b"{\"event\":");
        append_json_string(out, event.name())?;
        out.extend_from_slice(b",\"code\":");
        append_json_string(out, event.code())?;
        out.extend_from_slice(b",\"time\":\"");
        self.time.append(out);
        out.extend_from_slice(b"\",\"uid\":");
        append_json_string(out, self.uid)?;
        out.extend_from_slice(b",\"cluster_name\":");
        append_json_string(out, self.cluster_name.as_str())?;
        out.extend_from_slice(b",\"writer\":");
        append_json_string(out, self.writer.as_str())?;
        out.extend_from_slice(b",\"seq\":");
        serde_json::to_writer(&mut *out, &self.seq)?;
        event.append_fields(out)?;
        append_map(out, extra)?;
        out.push(b'}');
        Ok(())
    }
}

/// Appends fields to an object of JSON that has some already.
pub(super) fn append_map(
    out: &mut Vec<u8>,
    fields: &Map<String, Value>,
) -> Result<(), serde_json::Error> {
    for (key, value) in fields {
        out.push(b',');
        serde_json::to_writer(&mut *out, key)?;
        out.push(b':');
        serde_json::to_writer(&mut *out, value)?;
    }
    Ok(())
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("event", self.event.name())?;
        map.serialize_entry("code", self.event.code())?;
        map.serialize_entry("time", &self.time)?;
        map.serialize_entry("uid", &self.uid)?;
        map.serialize_entry("cluster_name", &self.cluster_name)?;
        map.serialize_entry("writer", &self.writer)?;
        map.serialize_entry("seq", &self.seq)?;
        self.event.write_fields(&mut map)?;
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[derive(Deserialize)]
struct Wire {
    event: Text<256>,
    code: Text<256>,
    time: Timestamp,
    uid: Text<256>,
    cluster_name: ClusterName,
    writer: WriterId,
    seq: u64,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { event, code, time, uid, cluster_name, writer, seq, fields } =
            Wire::deserialize(deserializer)?;
        if event.is_empty() {
            return Err(de::Error::custom("the event has no name"));
        }
        let (event, extra) = Event::read(event, code, fields);
        Ok(Self { uid, time, cluster_name, writer, seq, event, extra })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::events::{Exec, ExecCode, Outcome, SessionContext, UserLogin, UserLoginCode};
    use crate::audit::{List, Severity, Stamper};
    use crate::ids::{HostId, Login, SessionId, UserName};
    use crate::time::ManualClock;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn stamper() -> Stamper {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_767_323_045_678)));
        let cluster = ClusterName::new("example.com").unwrap();
        Stamper::new(cluster, WriterId::new("w-1").unwrap(), 41, clock)
    }

    fn exec(command: &str) -> Event {
        let session = SessionContext {
            user: UserName::new("alice").unwrap(),
            login: Some(Login::new("root").unwrap()),
            sid: SessionId::new("s-1").unwrap(),
            server_id: HostId::new("h-1").unwrap(),
            server_hostname: Some("web-1".into()),
            proto: "ssh".into(),
            addr_remote: Some("203.0.113.7:40112".into()),
            addr_local: None,
            user_roles: List::from_iter(["access"]),
            trace_id: None,
        };
        let (code, command) = (ExecCode::Failed, command.into());
        Exec { code, session, command, exit_code: Some(3), exit_error: None }.into()
    }

    #[test]
    fn an_event_is_one_flat_object_in_a_stable_order() {
        let json = String::from_utf8(stamper().stamp(exec("false")).to_json().unwrap()).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"event":"exec","code":"T3002E","time":"2026-01-02T03:04:05.678Z","#,
                r#""uid":"UID","cluster_name":"example.com","writer":"w-1","seq":41,"#,
                r#""user":"alice","login":"root","sid":"s-1","server_id":"h-1","#,
                r#""server_hostname":"web-1","proto":"ssh","addr.remote":"203.0.113.7:40112","#,
                r#""user_roles":["access"],"command":"false","exitCode":3}"#,
            )
            .replace("UID", stamper().stamp(exec("")).uid.as_str()),
        );
    }

    #[test]
    fn a_stamper_writes_what_its_envelopes_say() {
        let mut stamper = stamper();
        for seq in [41, 42] {
            let mut json = Vec::new();
            stamper.append_json(&exec("a\"b"), 0, &mut json).unwrap();
            assert_eq!(json, stamper.stamp(exec("a\"b")).to_json().unwrap());
            let mut ahead = Vec::new();
            stamper.append_json(&exec("c"), 1, &mut ahead).unwrap();
            stamper.spend(seq);
            assert_eq!(ahead, stamper.stamp(exec("c")).to_json().unwrap());
        }
    }

    #[test]
    fn uids_follow_from_writer_and_number() {
        let mut stamper = stamper();
        let first = stamper.stamp(exec("a"));
        assert_eq!(first.uid, stamper.stamp(exec("b")).uid, "the number was not spent");
        stamper.commit(&first);
        let second = stamper.stamp(exec("c"));
        assert_eq!(second.seq, 42);
        assert_ne!(first.uid, second.uid);
    }

    #[test]
    fn newer_versions_are_read_and_written_again() {
        let mut json = serde_json::to_value(stamper().stamp(exec("x"))).unwrap();
        json["from_the_future"] = serde_json::json!({"a": [1]});
        let read: Envelope = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(read.to_json().unwrap(), serde_json::to_vec(&read).unwrap());
        assert!(matches!(read.event, Event::Exec(_)));
        assert_eq!(serde_json::to_value(&read).unwrap(), json);

        for (key, value) in [("code", "T3002Z"), ("event", "exec.v9"), ("sid", "not/an/id")] {
            let mut json = json.clone();
            json[key] = value.into();
            let read: Envelope = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(read.to_json().unwrap(), serde_json::to_vec(&read).unwrap());
            assert!(matches!(read.event, Event::Unknown(_)), "{key}");
            assert_eq!(serde_json::to_value(&read).unwrap(), json, "{key}");
        }
        json.as_object_mut().unwrap().remove("seq");
        assert!(serde_json::from_value::<Envelope>(json).is_err(), "no envelope without a number");
    }

    #[test]
    fn strangers_events_are_known_by_their_code() {
        let login = |code| {
            Event::from(UserLogin {
                code,
                user: "x".into(),
                method: "local".into(),
                addr_remote: None,
                outcome: Outcome::failed("wrong password"),
            })
        };
        assert!(login(UserLoginCode::LocalFailed).is_by_stranger());
        assert!(!login(UserLoginCode::Local).is_by_stranger());
        assert_eq!(login(UserLoginCode::SsoFailed).severity(), Severity::Warning);
        assert!(!exec("").is_by_stranger());
    }

    proptest! {
        #[test]
        fn hostile_texts_stay_in_one_line_and_come_back(command in "\\PC{0,40}[\0-\u{1f}]{0,9}.*") {
            let envelope = stamper().stamp(exec(&command));
            let json = envelope.to_json().unwrap();
            prop_assert!(json.iter().all(|byte| *byte >= 0x20), "a raw control character");
            prop_assert_eq!(&json, &serde_json::to_vec(&envelope).unwrap(), "both ways");
            prop_assert_eq!(Envelope::from_json(&json).unwrap(), envelope);
        }

        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Envelope::from_json(&bytes);
        }
    }
}
