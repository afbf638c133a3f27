//! What every process of the cluster but Auth has: a place in it, a view of it, a spool.

use std::sync::Arc;
use std::time::Duration;

use access_client::types::{Document, DocumentSpec};
use access_client::{AuthClient, Cache, CacheFeed};
use access_core::audit::AuditSink;
use access_core::gate::{PolicySource, RolePolicy};
use access_core::recording::Recorder;
use access_core::time::Clock;
use access_core::{Resource, ResourceRef, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::credentials::DatabaseCredentials;
use crate::error::AgentError;
use crate::heartbeat::{BEAT, Heartbeat};
use crate::membership::{HostOptions, Membership};
use crate::pause::{Pause, jittered};
use crate::recordings::SpoolRecorder;
use crate::spool::{ClientSource, SpoolSink, SpoolStatus};

/// How long a stopping process tries to hand over what it has.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long it is at least from one writing of the documents to the next.
const CHANGES: Duration = Duration::from_secs(1);

/// A host of the cluster: its membership, its cache of policy and authorities, its spool of audit
/// events and recordings, and its heart-beats. Agents build on it with
/// [`Agent`](crate::Agent); proxies take it as it is. Clones share it.
///
/// Nothing of it goes on by itself: [`Host::run`] does all the work.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    membership: Arc<Membership>,
    cache: Cache,
    spool: SpoolSink,
    recorder: SpoolRecorder,
    heartbeat: Heartbeat,
    cache_ready: watch::Sender<bool>,
    announced: watch::Sender<bool>,
}

/// How a host is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostStatus {
    /// When its certificates expire.
    pub certificates_until: Timestamp,
    /// Whether they hold.
    pub joined: bool,
    /// Whether the cluster's policy was read since the start.
    pub cache_ready: bool,
    /// When the policy was last known to be current.
    pub cache_fresh_at: Option<Timestamp>,
    /// Whether its documents stand in the cluster.
    pub announced: bool,
    /// Audit events that wait.
    pub spool: SpoolStatus,
    /// Recordings that wait to be uploaded.
    pub recordings: usize,
}

impl Host {
    /// Takes up the host's place (see [`Membership::open`]), opens its spool, and writes the ends
    /// of sessions that a crash left open.
    ///
    /// # Errors
    /// [`AgentError`] says what is missing or who refused.
    pub async fn open(options: HostOptions, clock: Arc<dyn Clock>) -> Result<Self, AgentError> {
        let membership = Arc::new(Membership::open(options, Arc::clone(&clock)).await?);
        let options = membership.options();
        let dir = options.data_dir.join("host");
        let cluster = membership.cluster().clone();
        let spool = SpoolSink::open(dir.join("spool"), cluster, options.spool.clone(), clock)?;
        let signer = {
            let membership = Arc::clone(&membership);
            Arc::new(move || membership.signer())
        };
        let recordings = options.recordings.clone();
        let recorder = SpoolRecorder::open(dir.join("recordings"), recordings, signer)?;
        match spool.end_abandoned_sessions(|session| recorder.last_written(session)) {
            Ok(0) => {}
            Ok(count) => warn!("{count} sessions were open when this process ended the last time"),
            Err(err) => warn!("the ends of sessions that a crash left cannot be written: {err}"),
        }
        let cache = Cache::new(membership.trust());
        Ok(Self {
            inner: Arc::new(Inner {
                membership,
                cache,
                spool,
                recorder,
                heartbeat: Heartbeat::default(),
                cache_ready: watch::Sender::new(false),
                announced: watch::Sender::new(false),
            }),
        })
    }

    /// Its place in the cluster.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.inner.membership
    }

    /// What it knows of the cluster.
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// The policy, for gates.
    pub fn policy(&self) -> Arc<RolePolicy> {
        self.inner.cache.policy()
    }

    /// Where events go.
    pub fn audit(&self) -> Arc<dyn AuditSink> {
        Arc::new(self.inner.spool.clone())
    }

    /// The spool behind [`Host::audit`].
    pub fn spool(&self) -> &SpoolSink {
        &self.inner.spool
    }

    /// What sessions are recorded by.
    pub fn recorder(&self) -> Arc<dyn Recorder> {
        Arc::new(self.inner.recorder.clone())
    }

    /// A client of Auth; see [`Membership::client`].
    pub fn client(&self) -> AuthClient {
        self.inner.membership.client()
    }

    /// Client certificates for the databases that this host serves; each call makes a store of
    /// its own.
    pub fn database_credentials(&self) -> DatabaseCredentials {
        DatabaseCredentials::new(self.clients(), self.inner.membership.clock())
    }

    /// Has a document stand in the cluster for as long as the host runs: a node, a proxy's
    /// [`ServerDocument`](access_client::types::ServerDocument). Its expiry is set here. One of the
    /// same kind and name is replaced, at once when the host runs.
    pub fn advertise<S>(&self, document: Document<S>)
    where
        S: DocumentSpec + Clone + Send + Sync + 'static,
    {
        self.inner.heartbeat.add(document);
    }

    /// Has a resource's document be written no more, because it is not served any more. What stands
    /// of it in the cluster is left to whoever removed it, or expires.
    pub fn retract(&self, resource: &ResourceRef) {
        self.inner.heartbeat.remove(resource);
    }

    /// A resource as Auth stored it, with the labels that decisions look at. `None` until it was
    /// stored.
    pub fn resource(&self, resource: &ResourceRef) -> Option<Resource> {
        self.inner.heartbeat.stored(resource)
    }

    /// Waits until the policy was read and the documents stand.
    pub async fn ready(&self) {
        let (mut cache, mut announced) =
            (self.inner.cache_ready.subscribe(), self.inner.announced.subscribe());
        // The senders live in what `self` holds.
        drop(cache.wait_for(|ready| *ready).await);
        drop(announced.wait_for(|ready| *ready).await);
    }

    /// How it is.
    pub fn status(&self) -> HostStatus {
        let inner = &self.inner;
        let validity = inner.membership.credentials().borrow().validity;
        HostStatus {
            certificates_until: validity.not_after(),
            joined: validity.check(inner.membership.clock().now()).is_ok(),
            cache_ready: *inner.cache_ready.borrow(),
            cache_fresh_at: inner.cache.policy().fresh_at().filter(|at| *at > Timestamp::EPOCH),
            announced: *inner.announced.borrow(),
            spool: inner.spool.status(),
            recordings: inner.recorder.backlog(),
        }
    }

    /// Renews, follows the cluster, delivers and uploads, until `stop`; then withdraws its
    /// documents and hands over what waits, within a few seconds. What is left is handed over at
    /// the next start.
    ///
    /// # Errors
    /// [`AgentError::Expired`] when the certificates expired and nothing helps.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), AgentError> {
        let clients = self.clients();
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let host = self.clone();
            async move { host.follow().await }
        });
        tasks.spawn({
            let (spool, clients) = (self.inner.spool.clone(), Arc::clone(&clients));
            async move { spool.deliver(clients).await }
        });
        tasks.spawn({
            let (recorder, clients) = (self.inner.recorder.clone(), Arc::clone(&clients));
            async move { recorder.upload(clients).await }
        });
        let beats = tokio::spawn({
            let host = self.clone();
            async move { host.beat().await }
        });
        let ended = tokio::select! {
            ended = self.inner.membership.keep_renewed() => ended,
            () = stop.cancelled() => Ok(()),
        };
        beats.abort();
        drop(beats.await);
        let hand_over = async {
            self.inner.heartbeat.withdraw(&self.client()).await;
            self.inner.spool.delivered().await;
            while self.inner.recorder.backlog() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(HAND_OVER, hand_over).await.is_err() {
            let HostStatus { spool, recordings, .. } = self.status();
            info!(events = spool.backlog, recordings, "the rest is handed over at the next start");
        }
        tasks.shutdown().await;
        self.inner.spool.save().await;
        if let Err(err) = self.inner.spool.sync().await {
            warn!("the audit spool could not be synced at the end: {err}");
        }
        ended
    }

    fn clients(&self) -> ClientSource {
        let membership = Arc::clone(&self.inner.membership);
        Arc::new(move || membership.client())
    }

    /// Feeds the cache, over a connection that shows the certificates of the moment.
    async fn follow(&self) {
        let membership = &self.inner.membership;
        let mut renewed = membership.credentials();
        loop {
            renewed.mark_unchanged();
            let feed = CacheFeed::new(
                self.inner.cache.clone(),
                membership.client(),
                membership.options().follow,
                membership.clock(),
            );
            let mut ready = feed.ready();
            let note = async {
                if ready.wait_for(|ready| *ready).await.is_ok() {
                    self.inner.cache_ready.send_replace(true);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = feed.run() => {}
                () = note => {}
                _ = renewed.changed() => debug!("new certificates: the watch starts over"),
            }
        }
    }

    /// Writes the documents again and again.
    async fn beat(&self) {
        let membership = &self.inner.membership;
        let clock: Arc<dyn Clock> = membership.clock();
        let mut pause = Pause::for_calls();
        let mut changes = self.inner.heartbeat.changes();
        loop {
            changes.mark_unchanged();
            let client = self.client();
            let beat = self.inner.heartbeat.beat(&client, membership.host_id(), clock.now());
            let wait = match beat.await {
                None => {
                    self.inner.announced.send_replace(true);
                    pause.reset();
                    jittered(BEAT)
                }
                Some(err) => {
                    warn!("this host's documents were not written: {err}");
                    pause.after_failure()
                }
            };
            let changed = async {
                // Changes come in groups, and a server that flaps is told of once in a while.
                tokio::time::sleep(CHANGES).await;
                // The sender lives in what `self` holds.
                drop(changes.changed().await);
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("membership", &self.inner.membership).finish_non_exhaustive()
    }
}
