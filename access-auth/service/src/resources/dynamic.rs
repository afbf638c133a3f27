//! Databases that administrators register, and what the agents that serve them tell of them.
//!
//! The document is the administrators' alone, so that it changes when they change it and not with
//! every beat of an agent's heart. What agents tell has rows of its own, one for each agent, and
//! whoever reads the document finds them in it.

use std::collections::BTreeMap;

use access_backend::{Batch, Condition, Item, KeyRange, Operation, Prefix};
use access_client::proto;
use access_client::types::{DbDocument, DbServer, Served};
use access_core::policy::ApiKind;
use access_core::{HostId, ResourceKind, ResourceName, ResourceRef, Timestamp};

use super::kinds::{KindEntry, Public};
use super::prepare::Prepared;
use super::read::absent;
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::hosts::{Owner, check_name, owner_key};
use crate::presence::Said;
use crate::service::AuthService;
use crate::store;

/// The most agents of one database that are shown, and that are forgotten at once.
const MAX_SERVERS: usize = 256;

impl AuthService {
    /// Whether the name of a document is a database's that an administrator registered.
    pub(super) async fn is_dynamic(&self, kind: ApiKind, name: &str) -> Result<bool> {
        Ok(kind == ApiKind::Db
            && self.owner_of_name(ResourceKind::Database, name).await?
                == Some(Owner::Administrators))
    }

    /// Checks and completes what an administrator says of a database. What was told of it before
    /// may not hold any more: its agents tell anew, as soon as they hear of the change.
    pub(super) async fn prepare_dynamic(
        &self,
        call: &Call,
        entry: KindEntry,
        mut document: DbDocument,
    ) -> Result<Prepared> {
        if call.host().is_some() {
            return Err(Error::Invalid("spec.host: a host tells of what it serves itself".into()));
        }
        document.spec.check()?;
        let resource = document.spec.resource(&document.metadata)?.id;
        check_name(&resource, self.cluster(), None)
            .map_err(|err| Error::Invalid(format!("metadata.name: {err}")))?;
        if document.metadata.labels.len() > 256 {
            return Err(Error::Invalid("metadata.labels: 256 at most".into()));
        }
        document.spec = document.spec.as_registered();
        let forgotten = self.forget_servers(&document.metadata.name).await?;
        let mut prepared = self.finish(entry, document, None)?;
        let (condition, operation) =
            self.take_for_administrators(&resource, prepared.expires).await?;
        prepared.conditions.push(condition);
        prepared.operations.push(operation);
        prepared.operations.extend(forgotten);
        Ok(prepared)
    }

    /// What else goes with such a document: its name is free from then on.
    pub(super) async fn release_dynamic(&self, name: &str) -> Result<Vec<Operation>> {
        let resource = ResourceRef { kind: ResourceKind::Database, name: ResourceName::new(name)? };
        let mut operations = self.forget_servers(name).await?;
        operations.push(Operation::Delete(owner_key(&resource)?));
        Ok(operations)
    }

    async fn forget_servers(&self, name: &str) -> Result<Vec<Operation>> {
        let range = KeyRange::from(reports(name)?);
        let page = self.inner.storage.backend.range(&range, MAX_SERVERS, None).await?;
        Ok(page.items.into_iter().map(|item| Operation::Delete(item.key)).collect())
    }

    /// Notes what an agent tells of such a database, which it may serve.
    pub(super) async fn note_server(
        &self,
        host: &HostId,
        entry: KindEntry,
        value: serde_json::Value,
        old: &Item,
    ) -> Result<proto::Document> {
        let told = DbDocument::from_value(value)?;
        told.spec.check()?;
        if told.spec.host.as_ref() != Some(host) {
            return Err(Error::Denied("spec.host: a host may tell only about itself".into()));
        }
        let name = told.metadata.name;
        let server = DbServer {
            host: host.clone(),
            hostname: told.spec.hostname,
            version: told.spec.version,
            role_schema: told.spec.role_schema,
            health: told.spec.health,
        };
        let key = report(&name, host)?;
        let said = serde_json::to_value(&server).map_err(|err| Error::Internal(err.to_string()))?;
        let said = Said::of(&said);
        let presence = &self.inner.presence;
        let held = self.inner.storage.backend.get(&key).await?;
        if held.is_some_and(|held| presence.still_there(host, said, &held, self.now())) {
            let public = entry.public(old, self.now())?;
            return public.map(|public| public.document).ok_or_else(|| absent(entry.kind, &name));
        }
        let row = store::new_row(key.clone(), &server)?;
        let row = store::expiring(row, Some(self.heartbeat(told.metadata.expires)));
        let expires = row.expires;
        let batch =
            Batch::new().when(Condition::present(old.key.clone())).then(Operation::Put(row));
        match self.commit(batch).await {
            Ok(revision) => presence.note(&key, host, said, revision, expires, self.now()),
            Err(access_backend::Error::ConditionFailed { .. }) => {
                return Err(absent(entry.kind, &name));
            }
            Err(err) => return Err(err.into()),
        }
        let public = entry.public(old, self.now())?;
        public.map(|public| public.document).ok_or_else(|| absent(entry.kind, &name))
    }

    /// Forgets what an agent told: it serves the database no longer.
    pub(super) async fn forget_server(&self, host: &HostId, name: &str) -> Result<()> {
        let batch = Batch::new().then(Operation::Delete(report(name, host)?));
        self.commit(batch).await?;
        Ok(())
    }

    /// A document as it is read, with what the agents told.
    pub(super) async fn with_servers(
        &self,
        kind: ApiKind,
        public: Public,
    ) -> Result<proto::Document> {
        let mut one = vec![public];
        self.add_servers(kind, &mut one, false).await?;
        one.pop().map(|public| public.document).ok_or_else(|| Error::Internal("none".into()))
    }

    /// The same for many.
    pub(super) async fn add_servers(
        &self,
        kind: ApiKind,
        documents: &mut [Public],
        lately: bool,
    ) -> Result<()> {
        if kind != ApiKind::Db {
            return Ok(());
        }
        let mut all = None;
        let single = documents.len() == 1;
        for public in documents {
            let Ok(mut document) = DbDocument::from_json(&public.document.json) else { continue };
            if !document.spec.is_dynamic() {
                continue;
            }
            let name = &document.metadata.name;
            let servers = match &mut all {
                Some(all) => all,
                none if single => none.insert(self.servers(reports(name)?, lately).await?),
                none => none.insert(self.servers(all_reports()?, lately).await?),
            };
            document.spec.servers = servers.remove(name).unwrap_or_default();
            document.spec.servers.truncate(MAX_SERVERS);
            public.document.json = document.to_json()?;
        }
        Ok(())
    }

    /// What agents tell at the moment, by the database.
    async fn servers(
        &self,
        below: Prefix,
        lately: bool,
    ) -> Result<BTreeMap<String, Vec<DbServer>>> {
        let (backend, range) = (&*self.inner.storage.backend, KeyRange::from(below));
        let rows = match lately {
            true => access_backend::read_all_lately(backend, &range, 10_000).await?,
            false => access_backend::read_all(backend, &range, 10_000).await?,
        };
        let mut servers: BTreeMap<String, Vec<DbServer>> = BTreeMap::new();
        for item in rows.iter().filter(|item| !is_past(item, self.now())) {
            let server: DbServer = serde_json::from_slice(&item.value)
                .map_err(|err| Error::stored(item.key.as_str(), err))?;
            let name = item.key.segments().rev().nth(1).unwrap_or_default();
            servers.entry(name.to_owned()).or_default().push(server);
        }
        Ok(servers)
    }

    /// All that agents tell at the moment.
    pub(super) async fn all_servers(&self) -> Result<BTreeMap<String, Vec<DbServer>>> {
        self.servers(all_reports()?, false).await
    }
}

fn is_past(item: &Item, now: Timestamp) -> bool {
    item.is_expired(store::millis(now))
}

fn all_reports() -> Result<Prefix> {
    Ok(Prefix::from_segments(["reports", "db"])?)
}

fn reports(name: &str) -> Result<Prefix> {
    Ok(Prefix::from_segments(["reports", "db", name])?)
}

fn report(name: &str, host: &HostId) -> Result<access_backend::Key> {
    store::key(["reports", "db", name, host.as_str()])
}
