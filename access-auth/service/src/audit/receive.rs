//! Events that hosts hand over.

use access_backend::{Batch, Condition, MAX_APPEND_EVENTS, Operation};
use access_client::proto;
use access_core::audit::events::AuditGap;
use access_core::audit::{AuditSink, Durability, Envelope, MAX_EVENT_BYTES};
use access_core::{HostId, WriterId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::service::AuthService;
use crate::store;

/// Whose an audit writer is: the first host that came with it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Writer {
    host: HostId,
}

impl AuthService {
    /// Stores the events of one writer, which belongs to one host. Storing them again changes
    /// nothing.
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
        self.own_writer(&writer, host).await?;
        let events = &self.inner.storage.events;
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
            rows.push(super::stored(&envelope, super::json_of(&envelope)?));
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
        Ok(envelope)
    }

    async fn own_writer(&self, writer: &WriterId, host: &HostId) -> Result<()> {
        let backend = &*self.inner.storage.backend;
        let key = store::key(["writers", writer.as_str()])?;
        if let Some(row) = store::row::<Writer>(backend, &key).await? {
            return same_host(&row.value, host);
        }
        let row = store::new_row(key.clone(), &Writer { host: host.clone() })?;
        let batch = Batch::new().when(Condition::absent(key.clone())).then(Operation::Put(row));
        match backend.batch(batch).await {
            Ok(_) => Ok(()),
            Err(access_backend::Error::ConditionFailed { .. }) => {
                match store::row::<Writer>(backend, &key).await? {
                    Some(row) => same_host(&row.value, host),
                    None => Err(Error::Conflict("the audit writer was removed: try again".into())),
                }
            }
            Err(err) => Err(err.into()),
        }
    }
}

fn same_host(writer: &Writer, host: &HostId) -> Result<()> {
    if writer.host == *host {
        Ok(())
    } else {
        Err(Error::Denied("this audit writer belongs to another host".into()))
    }
}
