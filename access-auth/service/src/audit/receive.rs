//! Events that hosts hand over.

use access_backend::{MAX_APPEND_EVENTS, StoredEvent};
use access_client::proto;
use access_core::audit::events::AuditGap;
use access_core::audit::{
    AuditSink, Durability, Envelope, MAX_EVENT_BYTES, Outline, Stamper, uid_of,
};
use access_core::{ClusterName, HostId, WriterId};

use super::{allowed, writers};
use crate::error::{Error, Result};
use crate::service::AuthService;
use crate::store::millis;

impl AuthService {
    /// Stores the events of one writer, which belongs to one host. Storing them again changes
    /// nothing. Of an event that no host may write it is stored that it was refused: see
    /// [`allowed`].
    pub(crate) async fn receive_events(
        &self,
        host: &HostId,
        request: proto::EmitRequest,
    ) -> Result<proto::EmitResponse> {
        let writer = WriterId::new(&request.writer)?;
        let received = request.into_events(MAX_APPEND_EVENTS);
        let received = received.map_err(|err| Error::Invalid(err.to_string()))?;
        let storage = &self.inner.storage;
        writers::claim(&*storage.backend, &*storage.events, &writer, host).await?;
        let events = &storage.events;
        let before = events.last_seq(writer.as_str()).await?.unwrap_or(0);
        let mut rows = Vec::with_capacity(received.len());
        let mut last = 0;
        let mut gap = None;
        let emitter = Emitter::of(host)?;
        for json in &received {
            let row = match plain_row(json, &writer, self.cluster(), &emitter) {
                Some(row) => row,
                None => row_of(self.check_event(json, &writer)?, host)?,
            };
            if row.seq <= last {
                return Err(Error::Invalid(
                    "the events are not in the order of their numbers".into(),
                ));
            }
            let expected = last.max(before) + 1;
            if gap.is_none() && row.seq > expected {
                gap = Some((expected, row.seq - 1));
            }
            last = row.seq;
            rows.push(row);
        }
        if rows.is_empty() {
            return Ok(proto::EmitResponse { stored_up_to: before });
        }
        let lines =
            rows.iter().filter(|row| row.seq > before).map(|row| row.json.clone()).collect();
        events.append(rows).await?;
        self.inner.lines.append(lines, self.now()).await;
        if let Some((first, last)) = gap {
            let event = AuditGap { gap_writer: writer, first, last };
            self.inner.audit.accept(event.into(), Durability::Soon).await?;
        }
        Ok(proto::EmitResponse { stored_up_to: last.max(before) })
    }

    fn check_event(&self, json: &[u8], writer: &WriterId) -> Result<Envelope> {
        if json.len() > MAX_EVENT_BYTES {
            return Err(Error::Invalid(format!(
                "an event has {} bytes, more than {MAX_EVENT_BYTES}",
                json.len()
            )));
        }
        let envelope = Envelope::from_json(json).map_err(|err| Error::Invalid(err.to_string()))?;
        if envelope.writer != *writer {
            return Err(Error::Invalid("an event is of another writer".into()));
        }
        if envelope.cluster_name != *self.cluster() {
            return Err(Error::Invalid("an event is of another cluster".into()));
        }
        if envelope.seq == 0 || i64::try_from(envelope.seq).is_err() {
            return Err(Error::Invalid("an event's number is out of range".into()));
        }
        // Its id follows from its number, whatever the host says: with the id of another event it
        // would pass for that one's repetition.
        let clock = self.inner.clock.clone();
        let stamper = Stamper::new(self.cluster().clone(), writer.clone(), envelope.seq, clock);
        let stamped = stamper.stamp(envelope.event);
        Ok(Envelope { uid: stamped.uid, event: stamped.event, ..envelope })
    }
}

/// The field that says who handed an event over, as it is put at its end.
struct Emitter(String);

impl Emitter {
    fn of(host: &HostId) -> Result<Self> {
        let host = serde_json::to_string(host).map_err(|err| Error::Internal(err.to_string()))?;
        Ok(Self(format!(",\"{}\":{host}}}", allowed::EMITTER)))
    }
}

/// What is stored of an event that a host may write and wrote as this version would: what came,
/// and who handed it over. Nearly all events are such, and this spares reading them whole.
fn plain_row(
    json: &[u8],
    writer: &WriterId,
    cluster: &ClusterName,
    emitter: &Emitter,
) -> Option<StoredEvent> {
    let outline = Outline::read(json)?;
    let known = outline.writer == writer.as_str()
        && outline.cluster_name == cluster.as_str()
        && (1..=i64::MAX.unsigned_abs()).contains(&outline.seq)
        && outline.uid == uid_of(writer, outline.seq)
        && allowed::is_allowed(outline.event)
        && !outline.has(allowed::EMITTER)
        && outline.user.is_none_or(|user| user.len() <= super::MAX_USER);
    let head = json.strip_suffix(b"}").filter(|_| known)?;
    let mut line = Vec::with_capacity(head.len() + emitter.0.len());
    line.extend_from_slice(head);
    line.extend_from_slice(emitter.0.as_bytes());
    (line.len() <= MAX_EVENT_BYTES).then(|| StoredEvent {
        writer: outline.writer.to_owned(),
        seq: outline.seq,
        time: millis(outline.time),
        name: outline.event.to_owned(),
        user: outline.user.map(str::to_owned),
        json: line.into(),
    })
}

/// What is stored of a host's event: the event, or that it was refused.
fn row_of(envelope: Envelope, host: &HostId) -> Result<StoredEvent> {
    let kind = envelope.event.name().to_owned();
    let refuse = |envelope, why: &str| {
        tracing::warn!(%host, kind, why, "an audit event of a host was refused");
        metrics::counter!("access_audit_events_refused_total").increment(1);
        allowed::refused(envelope, host, why)
    };
    if !allowed::is_allowed(&kind) {
        let refused = refuse(envelope, "hosts may not write events of this kind");
        return Ok(super::stored(&refused, super::json_of(&refused)?));
    }
    let emitted = allowed::emitted_by(envelope, host);
    let json = super::json_of(&emitted)?;
    if json.len() <= MAX_EVENT_BYTES {
        return Ok(super::stored(&emitted, json));
    }
    let refused = refuse(emitted, "it is too large with the name of the host that wrote it");
    Ok(super::stored(&refused, super::json_of(&refused)?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use access_core::Timestamp;
    use access_core::audit::Event;
    use access_core::audit::events::{AccessDecision, AccessDecisionCode, UserLogout};
    use access_core::time::ManualClock;

    use super::*;

    fn denied(user: &str, reason: &str) -> Event {
        AccessDecision {
            code: AccessDecisionCode::Denied,
            user: user.into(),
            action: "ssh".into(),
            target_kind: "node".into(),
            target: "web-1".into(),
            login: None,
            reason: reason.into(),
            user_roles: Default::default(),
            sid: None,
            addr_remote: None,
            trace_id: None,
        }
        .into()
    }

    #[test]
    fn what_is_stored_as_it_came_is_what_reading_it_would_store() {
        let (cluster, writer) =
            (ClusterName::new("example.com").unwrap(), WriterId::new("w-1").unwrap());
        let host = HostId::new("h-1").unwrap();
        let emitter = Emitter::of(&host).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_767_323_045_678)));
        let stamper = Stamper::new(cluster.clone(), writer.clone(), 41, clock);
        let row = |json: &[u8]| plain_row(json, &writer, &cluster, &emitter);
        for reason in ["no role", "a \"quoted\"\nline \u{1} and \u{e9} \u{2028}", ""] {
            let envelope = stamper.stamp(denied("alice", reason));
            let json = envelope.to_json().unwrap();
            assert_eq!(row(&json), Some(row_of(envelope, &host).unwrap()));
        }

        // Everything else goes the other way, where it is refused, or read.
        let json =
            String::from_utf8(stamper.stamp(denied("alice", "x")).to_json().unwrap()).unwrap();
        assert!(row(json.as_bytes()).is_some());
        let uid = uid_of(&writer, 41);
        for (from, to) in [
            ("\"writer\":\"w-1\"", "\"writer\":\"w-2\"".to_owned()),
            ("example.com", "example.org".to_owned()),
            ("\"seq\":41", "\"seq\":42".to_owned()),
            (uid.as_str(), uid_of(&writer, 42)),
            ("\"reason\":\"x\"", "\"emitter\":\"h-2\"".to_owned()),
            ("\"reason\":\"x\"", format!("\"reason\":\"{}\"", "x".repeat(MAX_EVENT_BYTES))),
            ("\"alice\"", format!("\"{}\"", "x".repeat(300))),
        ] {
            assert!(json.contains(from), "{from} in {json}");
            assert_eq!(row(json.replace(from, &to).as_bytes()), None, "{from}");
        }
        let own: Event = UserLogout { user: "alice".into(), addr_remote: None }.into();
        assert_eq!(row(&stamper.stamp(own).to_json().unwrap()), None);
    }
}
