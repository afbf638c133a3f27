//! What administrators registered for this host to serve, followed by a watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use access_client::types::DbDocument;
use access_client::{ClientError, proto};
use access_core::policy::ApiKind;
use proto::watch_event::Event;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::host::Host;
use crate::pause::Pause;

/// How long the watch may be silent. Auth says it is alive every few seconds.
const SILENCE: Duration = Duration::from_secs(20);

/// Databases that administrators registered, by name.
pub type DynamicDatabases = Arc<BTreeMap<String, DbDocument>>;

impl Host {
    /// Follows the databases that administrators registered and that this host may serve, by
    /// [`HostOptions::databases`](crate::HostOptions) and its join token, for as long as it is
    /// polled. `known` is none until they were first read; when Auth is away, it stays as it was.
    pub async fn follow_databases(&self, known: &watch::Sender<Option<DynamicDatabases>>) {
        let membership = self.membership();
        let mut renewed = membership.credentials();
        let mut pause = Pause::for_calls();
        loop {
            renewed.mark_unchanged();
            let follow = async {
                match self.follow_once(known, &mut pause).await {
                    Ok(()) => debug!("the watch of databases ended, starting it again"),
                    Err(err) => warn!("the watch of databases broke: {err}"),
                }
                tokio::time::sleep(pause.after_failure()).await;
            };
            tokio::select! {
                () = follow => {}
                _ = renewed.changed() => debug!("new certificates: the watch starts over"),
            }
        }
    }

    /// One watch, to its end.
    async fn follow_once(
        &self,
        known: &watch::Sender<Option<DynamicDatabases>>,
        pause: &mut Pause,
    ) -> Result<(), ClientError> {
        let kinds = vec![ApiKind::Db.as_str().to_owned()];
        let request = proto::WatchRequest { kinds, position: Vec::new() };
        let client = self.client();
        let mut stream = client.resources().watch(request).await?.into_inner();
        let mut databases = BTreeMap::new();
        let mut complete = false;
        loop {
            let event = tokio::time::timeout(SILENCE, stream.message()).await.map_err(|_| {
                client.fail_over();
                ClientError::Unreachable {
                    address: "the auth service".into(),
                    why: format!("the watch was silent for {} s", SILENCE.as_secs()),
                }
            })??;
            let Some(event) = event.and_then(|event| event.event) else { return Ok(()) };
            match event {
                Event::Reset(_) => {
                    databases.clear();
                    complete = false;
                }
                Event::Ready(_) => {
                    complete = true;
                    pause.reset();
                }
                Event::Put(document) => match DbDocument::from_json(&document.json) {
                    Ok(read) if read.spec.is_dynamic() => {
                        drop(databases.insert(document.name, read))
                    }
                    Ok(_) => drop(databases.remove(&document.name)),
                    // What cannot be read in full is not acted on in part.
                    Err(err) => {
                        warn!("the database {} cannot be served: {err}", document.name);
                        databases.remove(&document.name);
                    }
                },
                Event::Deleted(document) => drop(databases.remove(&document.name)),
            }
            if complete {
                known.send_if_modified(|held| {
                    let changed = held.as_deref() != Some(&databases);
                    if changed {
                        *held = Some(Arc::new(databases.clone()));
                    }
                    changed
                });
            }
        }
    }
}
