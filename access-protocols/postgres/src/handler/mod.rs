//! The server of databases: an agent's, or one that stands by itself.

mod account;
mod cancel;
mod journal;
mod judge;
mod relay;
mod serve;
mod session;
mod tape;
mod target;
mod wanted;

use std::net::SocketAddr;
use std::sync::Arc;

use access_core::audit::AuditSink;
use access_core::credentials::TargetCredentials;
use access_core::protocol::{Incoming, Protocol};
use access_core::reach::Reach;
use access_core::recording::Recorder;
use access_core::source::Rate;
use access_core::{Clock, Gate, ResourceKind};
use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use crate::database::Databases;
use crate::error::PostgresError;
use crate::observer::DatabaseObserver;
use crate::options::PostgresOptions;
use crate::tls::ALPN_POSTGRESQL;
use crate::wire::{CancelRequest, Failure};
use account::Accounts;
use cancel::Registry;
pub(crate) use target::{greet_in_clear, greet_secured};
pub(crate) use wanted::Refused;

/// Serves databases to PostgreSQL's clients. See the [crate's documentation](crate).
#[derive(Clone)]
pub struct PostgresServer {
    parts: Arc<Parts>,
}

/// What all sessions share.
pub(crate) struct Parts {
    gate: Arc<Gate>,
    reach: Arc<dyn Reach>,
    audit: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
    recorder: Option<Arc<dyn Recorder>>,
    credentials: Option<Arc<dyn TargetCredentials>>,
    databases: Databases,
    options: PostgresOptions,
    registry: Arc<Registry>,
    accounts: Arc<Accounts>,
    observer: Option<Arc<dyn DatabaseObserver>>,
    /// How many events those leave who have proved nothing.
    strangers: Rate,
    /// What sessions have left to be done.
    left: TaskTracker,
}

/// Gathers what a [`PostgresServer`] needs.
#[derive(Default)]
pub struct PostgresServerBuilder {
    gate: Option<Arc<Gate>>,
    reach: Option<Arc<dyn Reach>>,
    audit: Option<Arc<dyn AuditSink>>,
    clock: Option<Arc<dyn Clock>>,
    recorder: Option<Arc<dyn Recorder>>,
    credentials: Option<Arc<dyn TargetCredentials>>,
    databases: Option<Databases>,
    observer: Option<Arc<dyn DatabaseObserver>>,
    options: PostgresOptions,
}

impl PostgresServer {
    /// A builder. All but the recorder, the credentials, the observer and the options must be
    /// given.
    pub fn builder() -> PostgresServerBuilder {
        PostgresServerBuilder::default()
    }

    /// The databases that are served, to be replaced while it runs.
    pub fn databases(&self) -> &Databases {
        &self.parts.databases
    }

    pub(crate) fn options(&self) -> &PostgresOptions {
        &self.parts.options
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.parts.clock
    }

    pub(crate) fn audit(&self) -> &Arc<dyn AuditSink> {
        &self.parts.audit
    }

    pub(crate) async fn note_refused(&self, refused: &Refused<'_>, failure: &Failure) {
        self.parts.note_refused(refused, failure).await;
    }

    pub(crate) fn may_tell(&self, client: Option<SocketAddr>) -> bool {
        self.parts.may_tell(client)
    }

    /// Has the query of a session cancelled, as a client asks that came without TLS; see
    /// [`prelude::open`](crate::prelude::open). Returns when the database has been told, with
    /// whether it was: the client is not to know.
    pub async fn cancel(&self, request: &CancelRequest, client: Option<SocketAddr>) -> bool {
        self.parts.cancel(request, client).await
    }
}

impl Parts {
    async fn cancel(&self, request: &CancelRequest, client: Option<SocketAddr>) -> bool {
        let done = self.registry.cancel(request, client, self);
        let in_time = tokio::time::timeout(self.options.connect_deadline, done);
        in_time.await.unwrap_or(false)
    }

    /// Writes down what was refused; of strangers as often as they may have it.
    async fn note_refused(&self, refused: &Refused<'_>, failure: &Failure) {
        if refused.who.is_some() || self.may_tell(refused.client_addr) {
            refused.record(&self.audit, failure).await;
        }
    }

    /// Whether another event may tell of what somebody did there who has proved nothing.
    fn may_tell(&self, client: Option<SocketAddr>) -> bool {
        self.strangers.take(client, self.clock.now())
    }
}

impl PostgresServerBuilder {
    /// Decides who may do what.
    #[must_use]
    pub fn gate(mut self, gate: Arc<Gate>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Leads to the databases.
    #[must_use]
    pub fn reach(mut self, reach: Arc<dyn Reach>) -> Self {
        self.reach = Some(reach);
        self
    }

    /// Takes the events. Usually the sink that the gate writes to as well.
    #[must_use]
    pub fn audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Tells the time.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Records sessions. Without one, users whose sessions must be recorded get none.
    #[must_use]
    pub fn recorder(mut self, recorder: Arc<dyn Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Makes the certificates that databases are shown. Without it, none can be reached that ask
    /// for one.
    #[must_use]
    pub fn credentials(mut self, credentials: Arc<dyn TargetCredentials>) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// The databases that are served.
    #[must_use]
    pub fn databases(mut self, databases: Databases) -> Self {
        self.databases = Some(databases);
        self
    }

    /// Is told what sessions find of databases.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn DatabaseObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Limits and deadlines.
    #[must_use]
    pub fn options(mut self, options: PostgresOptions) -> Self {
        self.options = options;
        self
    }

    /// The server.
    ///
    /// # Errors
    /// [`PostgresError::Missing`] names what was not given.
    pub fn build(self) -> Result<PostgresServer, PostgresError> {
        let parts = Parts {
            gate: self.gate.ok_or(PostgresError::Missing("a gate"))?,
            reach: self.reach.ok_or(PostgresError::Missing("a reach"))?,
            audit: self.audit.ok_or(PostgresError::Missing("an audit sink"))?,
            clock: self.clock.ok_or(PostgresError::Missing("a clock"))?,
            recorder: self.recorder,
            credentials: self.credentials,
            databases: self.databases.ok_or(PostgresError::Missing("databases"))?,
            options: self.options,
            registry: Arc::default(),
            accounts: Arc::default(),
            observer: self.observer,
            strangers: Rate::of_strangers_events(),
            left: TaskTracker::new(),
        };
        Ok(PostgresServer { parts: Arc::new(parts) })
    }
}

#[async_trait]
impl Protocol for PostgresServer {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Database
    }

    fn alpn(&self) -> &'static [&'static [u8]] {
        &[ALPN_POSTGRESQL]
    }

    async fn serve(&self, connection: Incoming) {
        serve::serve(&self.parts, connection).await;
    }

    async fn drained(&self) {
        self.parts.left.close();
        self.parts.left.wait().await;
    }
}

impl std::fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresServer")
            .field("options", &self.parts.options)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PostgresServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresServerBuilder")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
