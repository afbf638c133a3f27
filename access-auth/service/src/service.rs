//! The service: what it is made of, how it starts and how it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use access_ca::{IssuingPolicy, SanName, ServerDraft};
use access_core::audit::AuditSink;
use access_core::gate::{Gate, GateOptions, PolicySource};
use access_core::identity::{SharedTrust, SpkiPin};
use access_core::ids::uuid_text;
use access_core::role::RoleField;
use access_core::tls::SharedKey;
use access_core::{Clock, ClusterName, HostId, Timestamp};
use object_store::ObjectStore;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admit::Identified;
use crate::audit::{AuthAudit, JsonLines};
use crate::cluster::{self, Found};
use crate::error::{Error, Result};
use crate::limits::Buckets;
use crate::live::Live;
use crate::options::{Limits, Options, Storage};
use crate::passwords::Passwords;
use crate::presence::Presence;
use crate::recordings;
use crate::resources::Recent;
use crate::secrets;
use crate::serve::Guard;
use crate::upkeep::Keeper;
use crate::users::Tries;

/// How long the first reading of the policy may take.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long the service's own certificate holds.
const SERVER_TTL: Duration = Duration::from_secs(24 * 3600);

/// The Auth Service of one cluster. Cheap to clone; clones are the same service.
#[derive(Clone)]
pub struct AuthService {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) storage: Storage,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) role_fields: &'static [RoleField],
    pub(crate) live: Arc<Live>,
    pub(crate) gate: Gate,
    pub(crate) audit: AuthAudit,
    pub(crate) lines: JsonLines,
    pub(crate) passwords: Passwords,
    /// Documents that hosts keep alive.
    pub(crate) presence: Presence,
    /// What watches showed last.
    pub(crate) recent: Recent,
    /// Logins by user and source.
    pub(crate) tries: Tries,
    pub(crate) pings: Buckets<IpAddr>,
    pub(crate) entry: Buckets<IpAddr>,
    pub(crate) calls: Buckets<Identified>,
    pub(crate) db_certificates: Buckets<HostId>,
    pub(crate) guard: Guard,
    pub(crate) recordings: Arc<dyn ObjectStore>,
    /// Each upload gathers some megabytes.
    pub(crate) uploads: Semaphore,
    pub(crate) key: Arc<SharedKey>,
    names: Vec<SanName>,
    made: bool,
    pub(crate) tasks: TaskTracker,
    pub(crate) closing: CancellationToken,
    /// Watches last until here: they have no end of their own. Ends with `closing` at the latest.
    pub(crate) watching: CancellationToken,
}

impl AuthService {
    /// Finds the cluster in the store, or makes it when there is none, and starts serving it.
    /// Nothing listens yet: see [`AuthService::serve_tls`] and [`AuthService::serve_local`].
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Setup`] when the store holds another cluster or no name is given for a new one,
    /// [`Error::File`] for the data directory, and what the store and the sealing key meet.
    pub async fn open(storage: impl Into<Storage>, options: Options) -> Result<Self> {
        let storage = storage.into();
        let Found { config, authorities, keys, made } =
            cluster::find_or_make(&*storage.backend, &options).await?;
        let (cluster, cluster_id) = (config.cluster_name.clone(), config.cluster_id.clone());
        let Options { data_dir, names, recordings, upkeep, clock, limits, role_fields, .. } =
            options;
        let recordings = match recordings {
            Some(store) => store,
            None => recordings::local_folder(&data_dir)?,
        };
        let names = own_names(&cluster, &names)?;
        let tasks = TaskTracker::new();
        let closing = CancellationToken::new();
        let lines = JsonLines::new(&data_dir)?;
        let (audit, writing) = AuthAudit::start(
            cluster,
            storage.clone(),
            lines.clone(),
            Arc::clone(&clock),
            closing.clone(),
        )
        .await?;
        tasks.spawn(writing);
        let (presence, renewing) = Presence::start(Arc::clone(&storage.backend), closing.clone());
        tasks.spawn(renewing);
        if let Some(upkeep) = upkeep {
            let holder = uuid_text(secrets::random()?);
            let keeper = Keeper::new(storage.clone(), Arc::clone(&clock), upkeep, &holder)?;
            tasks.spawn(keeper.run(closing.clone()));
        }
        let live = Arc::new(Live::new(config, authorities, keys, Arc::clone(&clock))?);
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let following = Arc::clone(&live).follow(Arc::clone(&storage.backend), ready);
        tasks.spawn(closing.clone().run_until_cancelled_owned(following));
        let policy: Arc<dyn PolicySource> = live.policy().clone();
        let gate =
            Gate::new(policy, Arc::new(audit.clone()), Arc::clone(&clock), GateOptions::default());
        let inner = Inner {
            passwords: Passwords::new(limits.password_hashes)?,
            presence,
            recent: Recent::default(),
            tries: Tries::new(Arc::clone(&storage.backend), Arc::clone(&clock), cluster_id),
            pings: Buckets::new(limits.ping),
            entry: Buckets::new(limits.entry),
            calls: Buckets::new(limits.calls),
            db_certificates: Buckets::new(limits.db_certificates),
            guard: Guard::new(&limits),
            uploads: Semaphore::new(limits.uploads),
            key: Arc::new(SharedKey::empty()),
            storage,
            clock,
            limits,
            role_fields,
            live,
            gate,
            audit,
            lines,
            recordings,
            names,
            made,
            tasks,
            watching: closing.child_token(),
            closing,
        };
        let service = Self { inner: Arc::new(inner) };
        tokio::time::timeout(READY_WITHIN, is_ready)
            .await
            .map_err(|_| Error::Setup("the store did not answer in time".into()))?
            .map_err(|_| Error::Setup("the store was closed".into()))?;
        let renew_at = service.certify_self()?;
        service.keep_certified(renew_at);
        Ok(service)
    }

    /// The cluster's name.
    pub fn cluster_name(&self) -> ClusterName {
        self.cluster().clone()
    }

    /// Whether this start made the cluster.
    pub fn is_new(&self) -> bool {
        self.inner.made
    }

    /// What pins the cluster: `ca_pin`, several while the host authority rotates.
    ///
    /// # Errors
    /// [`Error::Stored`] when a root cannot be read.
    pub fn ca_pins(&self) -> Result<Vec<SpkiPin>> {
        self.inner
            .live
            .authorities()
            .host
            .trusted()
            .pins()
            .map_err(|err| Error::stored("host authority", err))
    }

    /// What the cluster's own processes trust, kept current: for a proxy or an agent in the same
    /// process.
    pub fn trust(&self) -> Arc<SharedTrust> {
        Arc::clone(self.inner.live.trust())
    }

    /// The policy, kept current; good for decisions while [`AuthService::health`] finds no fault.
    pub fn policy(&self) -> Arc<dyn PolicySource> {
        self.inner.live.policy().clone()
    }

    /// The audit log, for other parts of the same process.
    pub fn audit(&self) -> Arc<dyn AuditSink> {
        Arc::new(self.inner.audit.clone())
    }

    /// Makes sure that the service can answer: that its store does, and that its policy is fresh and
    /// can be read.
    ///
    /// # Errors
    /// Why it can't.
    pub async fn health(&self) -> Result<()> {
        self.inner.storage.backend.health().await?;
        // A store that was moved away under a process that nobody stopped.
        access_backend::migrate::check_usable(&*self.inner.storage.backend).await?;
        self.inner.live.check_fresh()?;
        self.inner.live.check_locks()
    }

    /// Ends the watches of all clients, and those that they begin after this. For a program that
    /// stops: a watch has no end of its own, so that a connection with one is never done and
    /// [`AuthService::serve_tls`] would wait for it as long as it may. The clients look for the
    /// service again, as after a lost connection.
    pub fn end_watches(&self) {
        self.inner.watching.cancel();
    }

    /// Ends what runs in the background, connections among it, and waits for it. The store stays
    /// open.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    pub(crate) fn cluster(&self) -> &ClusterName {
        self.inner.live.cluster()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Writes a change of ours and waits until it is in force here.
    pub(crate) async fn commit(
        &self,
        batch: access_backend::Batch,
    ) -> Result<access_backend::Revision, access_backend::Error> {
        let touched: Vec<_> = batch
            .operations
            .iter()
            .map(|operation| {
                (operation.key().clone(), matches!(operation, access_backend::Operation::Put(_)))
            })
            .filter(|(key, _)| Live::follows(key))
            .collect();
        let revision = self.inner.storage.backend.batch(batch).await?;
        for (key, written) in touched {
            self.inner.live.seen(&key, written.then_some(revision)).await;
        }
        Ok(revision)
    }

    /// Issues the service's own certificate, and says when to do so again.
    fn certify_self(&self) -> Result<Timestamp> {
        let now = self.now();
        let random = SystemRandom::new();
        let failed = |_| Error::Internal("the system's random number generator failed".into());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(failed)?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random)
                .map_err(|err| Error::Internal(err.to_string()))?;
        let spki = access_ca::PublicKey::from_raw(
            access_ca::KeyAlgorithm::EcdsaP256,
            pair.public_key().as_ref(),
        )?;
        let draft = ServerDraft {
            cluster: self.cluster().clone(),
            names: self.inner.names.clone(),
            tls_public_key: spki.spki_der().to_vec(),
            ttl: SERVER_TTL,
        };
        let signed = draft
            .vet(&IssuingPolicy::new(now, SERVER_TTL))?
            .sign(&self.inner.live.authorities().host)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()));
        self.inner
            .key
            .replace(signed.tls_chain(), key)
            .map_err(|err| Error::Internal(err.to_string()))?;
        Ok(now.plus(SERVER_TTL / 2))
    }

    /// Renews the service's own certificate for as long as the service is there.
    fn keep_certified(&self, mut renew_at: Timestamp) {
        let weak = Arc::downgrade(&self.inner);
        let clock = Arc::clone(&self.inner.clock);
        let renewing = async move {
            loop {
                clock.sleep_until(renew_at).await;
                let Some(inner) = weak.upgrade() else { return };
                let service = Self { inner };
                renew_at = match service.certify_self() {
                    Ok(next) => next,
                    Err(error) => {
                        tracing::error!(%error, "the service's own certificate cannot be renewed");
                        clock.now().plus(Duration::from_secs(60))
                    }
                };
            }
        };
        self.inner.tasks.spawn(self.inner.closing.clone().run_until_cancelled_owned(renewing));
    }
}

impl std::fmt::Debug for AuthService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthService").field("cluster", self.cluster()).finish_non_exhaustive()
    }
}

fn own_names(cluster: &ClusterName, more: &[String]) -> Result<Vec<SanName>> {
    let own = format!("auth.{cluster}");
    let mut names = Vec::new();
    for name in [own.as_str(), "localhost", "127.0.0.1", "::1"]
        .into_iter()
        .chain(more.iter().map(String::as_str))
    {
        let name: SanName = name.parse()?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}
