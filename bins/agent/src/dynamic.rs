//! Databases that administrators register, served while they match this agent's labels.
//!
//! ```text
//!  documents (watch) ─► address, TLS, labels ─► served ─► shown ─► certificates that name them
//!        │ removed, or matched no more                                │
//!        └────────────────► sessions end, nothing new is taken ───────┘
//! ```
//!
//! Where a database is, and how it proves itself, is the document's alone: nothing of it is in the
//! configuration, and no file is read for it. Proxies lead here by the certificates, so these are
//! renewed when what is served has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use access_agent::{Agent, DynamicDatabases};
use access_client::types::{
    DbDocument, DbProtocol, DbSpec, MAX_RESOURCES, ResourceMatchers, Served, TlsNegotiation,
};
use access_core::{ResourceKind, ResourceName, ResourceRef};
use access_daemon::Exit;
use access_daemon::config::DbSection;
use access_postgres::{self as postgres, Database, TargetAuth, TargetTls};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::databases::{Serving, mode, target_tls};
use crate::health::Shown;

/// The certificates are renewed no more often than this: changes come in groups.
const RENEWALS: Duration = Duration::from_secs(1);
/// How soon something is tried again that did not work.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves what administrators register.
pub(crate) struct Dynamic {
    agent: Arc<Agent>,
    matchers: ResourceMatchers,
    serving: Serving,
    shown: Shown,
    /// Those of the configuration, which no document changes.
    fixed: Vec<Database>,
    current: BTreeMap<ResourceRef, Current>,
    /// What the certificates were last renewed for, and when.
    renewed: Option<(BTreeSet<ResourceRef>, Instant)>,
    /// Whether it was said that there are too many.
    complained: bool,
}

/// One that is served.
struct Current {
    document: DbDocument,
    database: Database,
}

impl Dynamic {
    pub(crate) fn new(
        agent: Arc<Agent>,
        serving: Serving,
        shown: Shown,
        section: &DbSection,
    ) -> Result<Self, Exit> {
        let matchers = ResourceMatchers::compile(&section.resources)
            .map_err(|err| Exit::usage(format!("db_service.resources: {err}")))?;
        let fixed = serving.databases.all().iter().map(|one| Database::clone(one)).collect();
        let current = BTreeMap::new();
        let (renewed, complained) = (None, false);
        Ok(Self { agent, matchers, serving, shown, fixed, current, renewed, complained })
    }

    /// Serves what there is, until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let known = watch::Sender::new(None);
        let host = self.agent.host().clone();
        tokio::select! {
            () = host.follow_databases(&known) => {}
            () = self.keep_up(known.subscribe()) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn keep_up(&mut self, mut known: watch::Receiver<Option<DynamicDatabases>>) {
        loop {
            let documents = known.borrow_and_update().clone();
            let again = match documents {
                Some(documents) => self.serve(&documents).await,
                None => None,
            };
            let pause = async {
                match again {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = known.changed() => if changed.is_err() { return },
                () = pause => {}
            }
        }
    }

    /// Serves these and no others. Says when to try again, if something did not work or is due.
    async fn serve(&mut self, documents: &BTreeMap<String, DbDocument>) -> Option<Duration> {
        let wanted = self.wanted(documents);
        let mut failed = false;
        let mut news = Vec::new();
        let before: BTreeSet<_> = self.current.keys().cloned().collect();
        self.current.retain(|id, _| wanted.contains_key(id));
        for (id, document) in wanted {
            if self.current.get(&id).is_some_and(|current| current.document == *document) {
                continue;
            }
            match self.database(&id, document).await {
                Ok(database) => {
                    let document = document.clone();
                    news.push((id.clone(), document.clone()));
                    self.current.insert(id, Current { document, database });
                }
                Err(why) => {
                    // Not as it was before, either.
                    warn!(database = id.name.as_str(), "it cannot be served: {why}");
                    self.current.remove(&id);
                    failed = true;
                }
            }
        }
        let gone: Vec<_> = before.into_iter().filter(|id| !self.current.contains_key(id)).collect();
        if !news.is_empty() || !gone.is_empty() {
            self.put_into_force();
        }
        let host = self.agent.host();
        for id in gone {
            info!(database = id.name.as_str(), "it is no longer registered for this agent");
            drop(self.serving.reach.set_route::<&str>(&id, []));
            self.shown.hide(id.name.as_str());
            host.retract(&id);
        }
        for (id, document) in news {
            info!(database = id.name.as_str(), uri = document.spec.uri, "an administrator's");
            self.shown.show(self.report(&document));
        }
        match (self.certify().await, failed) {
            (None, true) => Some(AGAIN),
            (again, _) => again,
        }
    }

    /// Has new connections be led, and sessions be decided, by what is current.
    fn put_into_force(&self) {
        let current = self.current.values().map(|current| current.database.clone());
        self.serving.databases.replace(self.fixed.iter().cloned().chain(current));
        self.agent.serve_more(self.current.keys().cloned());
        self.agent.host().policy().redecide();
    }

    /// What matches, as far as there is room for it in the certificates.
    fn wanted<'a>(
        &mut self,
        documents: &'a BTreeMap<String, DbDocument>,
    ) -> BTreeMap<ResourceRef, &'a DbDocument> {
        let configured = &self.agent.host().membership().options().resources;
        let room = MAX_RESOURCES.saturating_sub(configured.len());
        let matching = documents.values().filter_map(|document| {
            let name = ResourceName::new(&document.metadata.name).ok()?;
            let id = ResourceRef { kind: ResourceKind::Database, name };
            let matches = document.spec.is_dynamic()
                && self.matchers.matches(&document.metadata.labels)
                && !configured.contains(&id);
            matches.then_some((id, document))
        });
        let mut wanted: BTreeMap<_, _> = matching.collect();
        let many = wanted.len() > room;
        if many && !self.complained {
            warn!(
                "{} databases match db_service.resources, and an agent serves {MAX_RESOURCES} \
                 resources at most: the first by name are served here",
                wanted.len()
            );
        }
        self.complained = many;
        while wanted.len() > room {
            wanted.pop_last();
        }
        wanted
    }

    /// What a document makes of a database; its address is put into force at once, for the next
    /// connection.
    async fn database(&self, id: &ResourceRef, document: &DbDocument) -> Result<Database, String> {
        let spec = &document.spec;
        spec.check().map_err(|err| err.to_string())?;
        let mut resource = spec.resource(&document.metadata).map_err(|err| err.to_string())?;
        resource.host = self.agent.host().membership().host_id().clone();
        let protocol = match spec.protocol {
            DbProtocol::Postgres => postgres::DatabaseProtocol::Postgres,
            DbProtocol::Cockroachdb => postgres::DatabaseProtocol::CockroachDb,
        };
        let tls = match mode(spec.tls.mode) {
            None => None,
            Some(mode) => {
                let mut roots = spec.tls.roots().map_err(|err| err.to_string())?;
                if roots.is_empty() && mode != postgres::TlsMode::Require {
                    let own = self.serving.credentials.server_roots().await;
                    roots = own.map_err(|err| err.to_string())?.to_vec();
                }
                let direct = spec.tls.negotiation == TlsNegotiation::Direct;
                let tls = TargetTls::new(mode, roots)
                    .and_then(|tls| target_tls(tls, spec.tls.server_name.as_deref(), direct));
                Some(tls.map_err(|err| err.to_string())?)
            }
        };
        let auth = if tls.is_some() { TargetAuth::Certificate } else { TargetAuth::Nothing };
        let addresses = spec.uri.split(',').map(str::trim);
        self.serving.reach.set_route(id, addresses).map_err(|err| err.to_string())?;
        let admin = spec.admin_user.as_ref();
        let admin_database = admin.and_then(|admin| admin.default_database.clone());
        Ok(Database { resource, protocol, tls, auth, admin_database })
    }

    /// What this agent tells of a database.
    fn report(&self, document: &DbDocument) -> DbDocument {
        let membership = self.agent.host().membership();
        let (spec, host) = (&document.spec, membership.host_id().clone());
        let mut told = DbSpec::new(spec.protocol, &spec.uri, host);
        told.hostname = membership.nodename().to_owned();
        told.version = env!("CARGO_PKG_VERSION").to_owned();
        DbDocument::new(&document.metadata.name, told)
    }

    /// Has the certificates name what is served: proxies lead here by them. Says when to try again.
    async fn certify(&mut self) -> Option<Duration> {
        let membership = self.agent.host().membership();
        let wanted: BTreeSet<_> = self.current.keys().cloned().collect();
        let configured = &membership.options().resources;
        let named: BTreeSet<_> = match membership.certified() {
            Ok(named) => named.into_iter().filter(|id| !configured.contains(id)).collect(),
            Err(err) => {
                warn!("the certificates do not hold: {err}");
                return Some(AGAIN);
            }
        };
        let due = match &self.renewed {
            // Auth knows better what it names.
            Some((last, _)) if *last == wanted => return None,
            _ if named == wanted => return None,
            Some((_, at)) => *at + RENEWALS,
            None => Instant::now(),
        };
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            return Some(early);
        }
        match membership.renew().await {
            Ok(()) => {
                self.renewed = Some((wanted, Instant::now()));
                None
            }
            Err(err) => {
                warn!("the certificates were not renewed for what is served now: {err}");
                Some(AGAIN)
            }
        }
    }
}
