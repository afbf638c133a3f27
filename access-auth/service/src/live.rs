//! The policy, the authorities and the trust of this moment, fed by the store's own watch.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_backend::{Backend, Item, Key, Prefix, Revision, WatchEvent};
use access_ca::{Authority, AuthorityDocument, KeyStore};
use access_client::types::{ClusterConfigSpec, Document, LockDocument, RoleDocument, UserDocument};
use access_core::gate::RolePolicy;
use access_core::identity::{AuthorityKind, SharedTrust, TrustStore, TrustedAuthority};
use access_core::policy::{PolicyBuilder, PolicySnapshot};
use access_core::{Clock, ClusterName, RoleName, Timestamp, UserName};
use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::error::{Error, Result};

/// What decisions are made over.
const FOLDERS: [&str; 5] = ["cluster", "users", "roles", "locks", "authorities"];
/// How long a write waits until it is seen here.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// How long the store's watch may be broken before nothing is decided any more.
const MAX_STALENESS: Duration = Duration::from_secs(300);
/// How long to wait before a broken watch is started again.
const RETRY: Duration = Duration::from_millis(500);

/// The authorities, open.
#[derive(Debug)]
pub(crate) struct Authorities {
    pub(crate) user: Arc<Authority>,
    pub(crate) host: Arc<Authority>,
    pub(crate) db: Arc<Authority>,
    pub(crate) db_client: Arc<Authority>,
}

impl Authorities {
    /// What the cluster's members trust one another by.
    pub(crate) fn trusted(&self) -> [&TrustedAuthority; 2] {
        [self.user.trusted(), self.host.trusted()]
    }

    /// The public halves of all.
    pub(crate) fn public(&self) -> [&TrustedAuthority; 4] {
        AuthorityKind::ALL.map(|kind| self.of_kind(kind).trusted())
    }

    fn of_kind(&self, kind: AuthorityKind) -> &Arc<Authority> {
        match kind {
            AuthorityKind::User => &self.user,
            AuthorityKind::Host => &self.host,
            AuthorityKind::Db => &self.db,
            AuthorityKind::DbClient => &self.db_client,
        }
    }

    /// The same with one of them replaced.
    fn with(&self, opened: Arc<Authority>) -> Self {
        let pick =
            |kind| Arc::clone(if opened.kind() == kind { &opened } else { self.of_kind(kind) });
        Self {
            user: pick(AuthorityKind::User),
            host: pick(AuthorityKind::Host),
            db: pick(AuthorityKind::Db),
            db_client: pick(AuthorityKind::DbClient),
        }
    }

    fn trust_store(&self, cluster: &ClusterName) -> Result<TrustStore> {
        TrustStore::new(cluster.clone(), self.trusted().map(Clone::clone))
            .map_err(|err| Error::stored("authorities", err))
    }
}

/// What decisions are made over.
pub(crate) struct Live {
    cluster: ClusterName,
    keys: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    policy: Arc<RolePolicy>,
    trust: Arc<SharedTrust>,
    authorities: ArcSwap<Authorities>,
    config: ArcSwap<ClusterConfigSpec>,
    revisions: Mutex<Revisions>,
    broken_since: Mutex<Option<Timestamp>>,
    /// Locks that can't be read: nobody knows whom they stop.
    unreadable_locks: Mutex<HashSet<Key>>,
    seen: watch::Sender<u64>,
}

/// Which writes came here.
#[derive(Default)]
struct Revisions {
    now: HashMap<Key, Revision>,
    /// The last ones, which others may have followed since.
    lately: VecDeque<(Key, Revision)>,
}

impl Revisions {
    /// How many are remembered.
    const LATELY: usize = 1024;

    fn note(&mut self, key: &Key, revision: Option<Revision>) {
        match revision {
            Some(revision) => {
                self.now.insert(key.clone(), revision);
                self.lately.push_back((key.clone(), revision));
                if self.lately.len() > Self::LATELY {
                    self.lately.pop_front();
                }
            }
            None => drop(self.now.remove(key)),
        }
    }

    /// Whether a write of this revision, or a deletion, came here.
    fn had(&self, key: &Key, revision: Option<Revision>) -> bool {
        self.now.get(key).copied() == revision
            || self.lately.iter().any(|(of, had)| of == key && Some(*had) == revision)
    }
}

impl Live {
    /// Starts with the authorities that were opened; the rest comes with [`Live::follow`].
    pub(crate) fn new(
        config: ClusterConfigSpec,
        authorities: Authorities,
        keys: Arc<dyn KeyStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let cluster = config.cluster_name.clone();
        let trust = authorities.trust_store(&cluster)?;
        Ok(Self {
            cluster,
            keys,
            clock,
            policy: Arc::new(RolePolicy::new(PolicySnapshot::builder().build())),
            trust: Arc::new(SharedTrust::new(trust)),
            authorities: ArcSwap::from_pointee(authorities),
            config: ArcSwap::from_pointee(config),
            revisions: Mutex::default(),
            broken_since: Mutex::default(),
            unreadable_locks: Mutex::default(),
            seen: watch::Sender::new(0),
        })
    }

    /// Whether changes of a key come here.
    pub(crate) fn follows(key: &Key) -> bool {
        key.segments().next().is_some_and(|folder| FOLDERS.contains(&folder))
    }

    pub(crate) fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    pub(crate) fn policy(&self) -> &Arc<RolePolicy> {
        &self.policy
    }

    pub(crate) fn trust(&self) -> &Arc<SharedTrust> {
        &self.trust
    }

    pub(crate) fn authorities(&self) -> Arc<Authorities> {
        self.authorities.load_full()
    }

    pub(crate) fn config(&self) -> Arc<ClusterConfigSpec> {
        self.config.load_full()
    }

    /// Fails when what is here is too old to decide over.
    pub(crate) fn check_fresh(&self) -> Result<()> {
        let broken = *self.broken_since.lock().unwrap_or_else(PoisonError::into_inner);
        match broken {
            Some(since) if self.clock.now().since(since) > MAX_STALENESS => {
                Err(Error::Storage(access_backend::Error::Unavailable {
                    detail: "the policy has not been heard of for too long".into(),
                }))
            }
            _ => Ok(()),
        }
    }

    /// Fails while a stored lock can't be read: it may be on whoever calls.
    pub(crate) fn check_locks(&self) -> Result<()> {
        let unreadable = self.unreadable_locks.lock().unwrap_or_else(PoisonError::into_inner);
        match unreadable.iter().next() {
            None => Ok(()),
            Some(key) => Err(Error::Storage(access_backend::Error::Unavailable {
                detail: format!(
                    "the stored lock {name:?} cannot be read, so that it may be on anybody: \
                     remove it on the service's host with `accessctl rm lock/{name}`",
                    name = key.name()
                ),
            })),
        }
    }

    /// Waits until a write of ours is in force here: of this revision, or deleted. A write that is
    /// not seen in time is logged, and comes into force when it is.
    pub(crate) async fn seen(&self, key: &Key, revision: Option<Revision>) {
        let mut seen = self.seen.subscribe();
        let there =
            || self.revisions.lock().unwrap_or_else(PoisonError::into_inner).had(key, revision);
        let waited = tokio::time::timeout(SEEN_WITHIN, seen.wait_for(|_| there())).await;
        if waited.is_err() {
            tracing::warn!(%key, "a change is not in force yet: the store's watch lags");
        }
    }

    /// Follows the store until it closes. The first time that everything is here, `ready` is told.
    pub(crate) async fn follow(
        self: Arc<Self>,
        backend: Arc<dyn Backend>,
        ready: tokio::sync::oneshot::Sender<()>,
    ) {
        let mut ready = Some(ready);
        loop {
            match self.follow_once(&*backend, &mut ready).await {
                Err(access_backend::Error::Closed) => return,
                Err(error) => tracing::warn!(%error, "the store's watch broke"),
                Ok(()) => tracing::info!("the store's watch starts afresh"),
            }
            let now = self.clock.now();
            self.broken_since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow_once(
        &self,
        backend: &dyn Backend,
        ready: &mut Option<tokio::sync::oneshot::Sender<()>>,
    ) -> Result<(), access_backend::Error> {
        let prefixes = FOLDERS
            .into_iter()
            .map(|name| Prefix::from_segments([name]))
            .collect::<Result<Vec<_>, _>>()?;
        let mut watch = backend.watch(&prefixes, None).await?;
        let mut first = Some((self.policy.snapshot().to_builder().clear(), HashMap::new()));
        while let Some(event) = watch.next().await {
            match (event?, first.take()) {
                (WatchEvent::Put(item), Some((builder, mut revisions))) => {
                    revisions.insert(item.key.clone(), item.revision);
                    // Handed on, not cloned: a builder that is alone copies nothing.
                    first = Some((self.put(builder, &item), revisions));
                }
                (WatchEvent::Put(item) | WatchEvent::Changed { item, .. }, _) => {
                    let builder = self.put(self.policy.snapshot().to_builder(), &item);
                    self.policy.replace(builder.build());
                    self.note(&item.key, Some(item.revision));
                }
                (WatchEvent::Deleted { key, .. }, _) => {
                    let builder = delete(self.policy.snapshot().to_builder(), &key);
                    self.policy.replace(builder.build());
                    self.note_lock(&key, true);
                    self.note(&key, None);
                }
                (WatchEvent::Ready(_), snapshot) => {
                    if let Some((builder, revisions)) = snapshot {
                        self.policy.replace(builder.build());
                        // Those that went while the watch was broken.
                        self.unreadable_locks
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .retain(|key| revisions.contains_key(key));
                        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).now =
                            revisions;
                        *self.broken_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
                        self.seen.send_modify(|tick| *tick = tick.wrapping_add(1));
                    }
                    if let Some(ready) = ready.take() {
                        // Whoever waited may have gone away.
                        let _ = ready.send(());
                    }
                }
                (WatchEvent::Reset, _) => return Ok(()),
            }
        }
        Ok(())
    }

    fn note(&self, key: &Key, revision: Option<Revision>) {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).note(key, revision);
        self.seen.send_modify(|tick| *tick = tick.wrapping_add(1));
    }

    fn note_lock(&self, key: &Key, readable: bool) {
        let mut unreadable = self.unreadable_locks.lock().unwrap_or_else(PoisonError::into_inner);
        if readable {
            unreadable.remove(key);
        } else {
            unreadable.insert(key.clone());
        }
    }

    fn put(&self, builder: PolicyBuilder, item: &Item) -> PolicyBuilder {
        let name = item.key.name();
        match item.key.segments().next() {
            Some("users") => match (UserName::new(name), UserDocument::from_json(&item.value)) {
                (Ok(name), Ok(user)) => builder.user(name, user.spec.state()),
                (Ok(name), Err(error)) => {
                    tracing::error!(%name, %error, "a stored user cannot be read: they are denied");
                    builder.remove_user(&name)
                }
                (Err(_), _) => builder,
            },
            Some("roles") => match (RoleName::new(name), RoleDocument::from_json(&item.value)) {
                (_, Ok(role)) => builder.role(&role),
                (Ok(name), Err(error)) => builder.unreadable_role(&name, error.to_string()),
                (Err(_), Err(_)) => builder,
            },
            Some("locks") => match LockDocument::from_json(&item.value) {
                Ok(lock) => {
                    self.note_lock(&item.key, true);
                    builder.lock(name, lock.spec)
                }
                Err(error) => {
                    tracing::error!(
                        name, %error,
                        "a stored lock cannot be read: nobody is served until it is removed"
                    );
                    self.note_lock(&item.key, false);
                    builder
                }
            },
            Some("cluster") => match Document::<ClusterConfigSpec>::from_json(&item.value) {
                Ok(config) if config.spec.cluster_name == self.cluster => {
                    let settings = config.spec.settings.clone();
                    self.config.store(Arc::new(config.spec));
                    builder.settings(settings)
                }
                _ => {
                    tracing::error!("the cluster's stored settings cannot be used");
                    builder
                }
            },
            Some("authorities") => {
                if let Err(error) = self.put_authority(item) {
                    tracing::error!(key = %item.key, %error, "a stored authority cannot be used");
                }
                builder
            }
            _ => builder,
        }
    }

    fn put_authority(&self, item: &Item) -> Result<()> {
        let document: AuthorityDocument = serde_json::from_slice(&item.value)
            .map_err(|err| Error::stored(item.key.as_str(), err))?;
        let now = self.authorities();
        let same = *now.of_kind(document.kind).document() == document;
        if same || document.cluster != self.cluster {
            return Ok(());
        }
        let next = now.with(Arc::new(Authority::open(&*self.keys, document)?));
        self.trust.replace(next.trust_store(&self.cluster)?);
        self.authorities.store(Arc::new(next));
        Ok(())
    }
}

fn delete(builder: PolicyBuilder, key: &Key) -> PolicyBuilder {
    let name = key.name();
    match key.segments().next() {
        Some("users") => match UserName::new(name) {
            Ok(name) => builder.remove_user(&name),
            Err(_) => builder,
        },
        Some("roles") => match RoleName::new(name) {
            Ok(name) => builder.remove_role(&name),
            Err(_) => builder,
        },
        Some("locks") => builder.remove_lock(name),
        _ => builder,
    }
}
