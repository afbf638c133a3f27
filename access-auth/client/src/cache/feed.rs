//! The watch that feeds a cache.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use access_core::identity::TrustedAuthority;
use access_core::policy::ApiKind;
use access_core::time::Clock;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::Cache;
use super::apply::Batch;
use crate::client::AuthClient;
use crate::error::ClientError;
use crate::proto;
use crate::proto::watch_event::Event;
use crate::ways::jittered;

/// How long the watch may be silent. Auth says it is alive every few seconds.
const SILENCE: Duration = Duration::from_secs(20);

/// First pause after the watch broke; doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Feeds a [`Cache`] for as long as it runs.
pub struct CacheFeed {
    cache: Cache,
    client: AuthClient,
    kinds: Vec<String>,
    clock: Arc<dyn Clock>,
    ready: watch::Sender<bool>,
}

impl CacheFeed {
    /// A feed of these kinds of document.
    pub fn new(cache: Cache, client: AuthClient, kinds: &[ApiKind], clock: Arc<dyn Clock>) -> Self {
        let kinds = kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
        Self { cache, client, kinds, clock, ready: watch::Sender::new(false) }
    }

    /// Becomes true with the first complete snapshot.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Follows the cluster until it is dropped. When Auth goes away it tries again, with pauses
    /// that grow; the cache keeps what it has, and grows stale.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut broken = false;
        loop {
            let before = self.clock.now();
            match self.follow().await {
                Ok(()) => debug!("the watch ended, starting it again"),
                Err(err) => {
                    warn!("the watch of the cluster's state broke: {err}");
                    // Whose store is away, or who hangs, may do so for longer than the others.
                    let away = matches!(err, ClientError::Unreachable { .. });
                    if away && std::mem::replace(&mut broken, true) {
                        self.client.fail_over();
                    }
                }
            }
            let lasted = self.clock.now().since(before);
            if lasted > LONGEST_PAUSE {
                (pause, broken) = (FIRST_PAUSE, false);
            }
            self.clock.sleep_until(self.clock.now().plus(jittered(pause))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One watch, to its end.
    async fn follow(&self) -> Result<(), ClientError> {
        let request = proto::WatchRequest { kinds: self.kinds.clone(), position: Vec::new() };
        let mut stream = self.client.resources().watch(request).await?.into_inner();
        let mut authorities = BTreeMap::new();
        let mut batch = Some(Batch::snapshot());
        let mut complete = false;
        loop {
            let event = tokio::time::timeout(SILENCE, stream.message()).await.map_err(|_| {
                self.client.fail_over();
                ClientError::Unreachable {
                    address: "the auth service".into(),
                    why: format!("the watch was silent for {} s", SILENCE.as_secs()),
                }
            })??;
            let Some(event) = event.and_then(|event| event.event) else { return Ok(()) };
            match event {
                Event::Reset(_) => {
                    info!("the watch starts over with a snapshot");
                    batch = Some(Batch::snapshot());
                    complete = false;
                }
                Event::Ready(_) => {
                    authorities = self.commit(batch.take(), authorities);
                    complete = true;
                    self.cache.policy.refresh(self.clock.now());
                    self.ready.send_replace(true);
                }
                Event::Put(document) => {
                    let changes = batch
                        .get_or_insert_with(|| Batch::changes(&self.cache, authorities.clone()));
                    changes.put(&document).map_err(ClientError::Malformed)?;
                }
                Event::Deleted(document) => {
                    batch
                        .get_or_insert_with(|| Batch::changes(&self.cache, authorities.clone()))
                        .delete(&document);
                }
            }
            if complete && batch.is_some() {
                // A lock must bite at once, so changes are not collected once there is a
                // complete snapshot.
                authorities = self.commit(batch.take(), authorities);
                self.cache.policy.refresh(self.clock.now());
            }
        }
    }

    fn commit(
        &self,
        batch: Option<Batch>,
        authorities: BTreeMap<String, TrustedAuthority>,
    ) -> BTreeMap<String, TrustedAuthority> {
        match batch {
            Some(batch) => batch.commit(&self.cache),
            None => authorities,
        }
    }
}

impl std::fmt::Debug for CacheFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheFeed").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}
