//! Documents that say that this process is up: written again before they expire.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use access_client::types::{Document, DocumentError, DocumentSpec, Metadata};
use access_client::{AuthClient, ClientError, proto, with_deadline};
use access_core::time::Timestamp;
use access_core::{HostId, Resource, ResourceKind, ResourceName, ResourceRef};
use serde::Deserialize;
use tokio::sync::watch;
use tracing::{debug, warn};

/// How long a document lives that is not told of again.
pub(crate) const TTL: Duration = Duration::from_secs(720);
/// How often documents are told of, at the longest; a minute on average. Auth writes what is new, and
/// what is about to expire.
pub(crate) const BEAT: Duration = Duration::from_secs(80);

/// A document as it is to be written at a moment.
type Render = Box<dyn Fn(Timestamp) -> Result<Vec<u8>, DocumentError> + Send + Sync>;

/// The documents of one process, and what Auth made of them.
#[derive(Default)]
pub(crate) struct Heartbeat {
    documents: Mutex<Vec<Beat>>,
    stored: RwLock<HashMap<ResourceRef, Resource>>,
    /// Ticks when there is something new to be written.
    changed: watch::Sender<u64>,
}

struct Beat {
    kind: &'static str,
    name: String,
    render: Render,
}

impl Heartbeat {
    /// Has a document written from now on; one of the same kind and name is replaced.
    pub(crate) fn add<S>(&self, document: Document<S>)
    where
        S: DocumentSpec + Clone + Send + Sync + 'static,
    {
        let (kind, name) = (S::KIND.as_str(), document.metadata.name.clone());
        let render: Render = Box::new(move |expires| {
            let mut document =
                Document { metadata: document.metadata.clone(), spec: document.spec.clone() };
            document.metadata.expires = Some(expires);
            document.metadata.revision = None;
            document.to_json()
        });
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.retain(|beat| beat.kind != kind || beat.name != name);
        documents.push(Beat { kind, name, render });
        drop(documents);
        self.changed.send_modify(|tick| *tick = tick.wrapping_add(1));
    }

    /// Has a document be written no more. What was written of it is left to expire.
    pub(crate) fn remove(&self, resource: &ResourceRef) {
        let (kind, name) = (resource.kind.as_str(), resource.name.as_str());
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.retain(|beat| beat.kind != kind || beat.name != name);
        drop(documents);
        self.stored.write().unwrap_or_else(PoisonError::into_inner).remove(resource);
    }

    /// Changes when a document is added or replaced.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What Auth stored of a resource, with the labels that count.
    pub(crate) fn stored(&self, resource: &ResourceRef) -> Option<Resource> {
        self.stored.read().unwrap_or_else(PoisonError::into_inner).get(resource).cloned()
    }

    /// Writes all documents. Says how many could not be written, and why the last one was not.
    pub(crate) async fn beat(
        &self,
        client: &AuthClient,
        host: &HostId,
        now: Timestamp,
    ) -> Option<ClientError> {
        let mut failed = None;
        for json in self.rendered(now.plus(TTL)) {
            let json = match json {
                Ok(json) => json,
                Err(err) => {
                    warn!("a document cannot be written: {err}");
                    continue;
                }
            };
            let request = with_deadline(proto::WriteRequest { json, force: false });
            match client.resources().put(request).await {
                Ok(answer) => self.note(&answer.into_inner(), host),
                Err(status) => failed = Some(status.into()),
            }
        }
        failed
    }

    /// Removes the documents, so that nobody is led here any more.
    pub(crate) async fn withdraw(&self, client: &AuthClient) {
        let names: Vec<_> = {
            let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
            documents.iter().map(|beat| (beat.kind, beat.name.clone())).collect()
        };
        for (kind, name) in names {
            let revision = String::new();
            let request = proto::DeleteRequest { kind: kind.to_owned(), name, revision };
            if let Err(err) = client.resources().delete(with_deadline(request)).await {
                // It expires by itself.
                debug!("a {kind} document was not removed: {err}");
            }
        }
    }

    fn rendered(&self, expires: Timestamp) -> Vec<Result<Vec<u8>, DocumentError>> {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.iter().map(|beat| (beat.render)(expires)).collect()
    }

    fn note(&self, document: &proto::Document, host: &HostId) {
        #[derive(Deserialize)]
        struct Stored {
            metadata: Metadata,
        }
        let Ok(kind) = document.kind.parse::<ResourceKind>() else { return };
        let Ok(name) = ResourceName::new(&document.name) else { return };
        match serde_json::from_slice::<Stored>(&document.json) {
            Ok(Stored { metadata }) => {
                let id = ResourceRef { kind, name };
                let resource = Resource::new(id.clone(), metadata.labels, host.clone());
                let mut stored = self.stored.write().unwrap_or_else(PoisonError::into_inner);
                stored.insert(id, resource);
            }
            Err(err) => warn!("the stored {kind} {name} cannot be read: {err}"),
        }
    }
}
