//! Events that hosts hand over.

use access_backend::{MAX_APPEND_EVENTS, StoredEvent};
use access_client::proto;
use access_core::audit::events::AuditGap;
use access_core::audit::{AuditSink, Durability, Envelope, MAX_EVENT_BYTES, Stamper};
use access_core::{HostId, WriterId};

use super::{allowed, writers};
use crate::error::{Error, Result};
use crate::service::AuthService;

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
        if request.events.len() > MAX_APPEND_EVENTS {
            return Err(Error::Invalid(format!(
                "{} events in one call, more than {MAX_APPEND_EVENTS}",
                request.events.len()
            )));
        }
        let storage = &self.inner.storage;
        writers::claim(&*storage.backend, &*storage.events, &writer, host).await?;
        let events = &storage.events;
        let before = events.last_seq(writer.as_str()).await?.unwrap_or(0);
        let mut rows = Vec::with_capacity(request.events.len());
        let mut last = 0;
        let mut gap = None;
        for json in &request.events {
            let envelope = self.check_event(json, &writer)?;
            if envelope.seq <= last {
                return Err(Error::Invalid(
                    "the events are not in the order of their numbers".into(),
                ));
            }
            let expected = last.max(before) + 1;
            if gap.is_none() && envelope.seq > expected {
                gap = Some((expected, envelope.seq - 1));
            }
            last = envelope.seq;
            rows.push(row_of(envelope, host)?);
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
