//! Creating, changing and deleting.

use access_backend::{Batch, Condition, Item, KeyRange, Operation};
use access_client::proto;
use access_client::types::UserSpec;
use access_core::policy::{ApiKind, Verb};
use access_core::{HostId, ResourceName, ResourceRef, RoleName, UserName};

use super::events::{Change, Changed};
use super::kinds::KindEntry;
use super::read::absent;
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::hosts::owner_key;
use crate::presence::Said;
use crate::service::AuthService;
use crate::store;
use crate::users::password_key;

/// How often a replacement is tried again when another change came in between.
const ATTEMPTS: usize = 8;

/// What a write demands of what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing must be.
    Create,
    /// It must be of the revision in the document.
    Update,
    /// Anything.
    Put,
}

impl AuthService {
    /// Writes a document.
    pub(crate) async fn write(
        &self,
        call: &Call,
        request: proto::WriteRequest,
        mode: Mode,
    ) -> Result<proto::Document> {
        let value: serde_json::Value = serde_json::from_slice(&request.json)
            .map_err(|err| Error::Invalid(format!("not JSON: {err}")))?;
        let text = |pointer: &str| {
            value.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned)
        };
        let entry = KindEntry::find(&text("/kind").unwrap_or_default())?;
        let name = text("/metadata/name")
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Error::Invalid("metadata.name: it is missing".into()))?;
        let key = entry
            .key(&name, self.cluster().as_str())
            .map_err(|_| Error::Invalid(format!("metadata.name: {name:.80} cannot be a name")))?;
        // What hosts tell of themselves again and again.
        let told = call.host().filter(|_| mode == Mode::Put);
        let told = told.map(|host| (host, Said::of(&value)));
        for _ in 0..ATTEMPTS {
            let old = self.inner.storage.backend.get(&key).await?;
            if let (Some((host, said)), Some(old)) = (told, &old)
                && self.inner.presence.still_there(host, said, old, self.now())
            {
                let owner = Some(host.clone());
                self.authorize(call, Verb::Update, entry.kind, Some(&name), owner).await?;
                let public = entry.public(old, self.now())?;
                return public
                    .map(|public| public.document)
                    .ok_or_else(|| absent(entry.kind, &name));
            }
            let verb =
                if old.is_some() || mode == Mode::Update { Verb::Update } else { Verb::Create };
            // Whoever may not write learns nothing of what is there.
            let verb = if mode == Mode::Create { Verb::Create } else { verb };
            let owner = self.owner_of_document(call, entry.kind, &name).await?;
            self.authorize(call, verb, entry.kind, Some(&name), owner).await?;
            if let (Some(host), Some(old)) = (call.host(), &old)
                && self.is_dynamic(entry.kind, &name).await?
            {
                return self.note_server(host, entry, value, old).await;
            }
            let condition = match (&old, mode) {
                (Some(_), Mode::Create) => {
                    return Err(Error::AlreadyExists(format!(
                        "{} {name:.128} exists already",
                        entry.kind
                    )));
                }
                (None, Mode::Update) => return Err(absent(entry.kind, &name)),
                (Some(old), Mode::Update) => {
                    let given = text("/metadata/revision").ok_or_else(|| {
                        Error::Invalid("metadata.revision: read the document first".into())
                    })?;
                    if given != old.revision.to_string() {
                        return Err(changed(entry.kind, &name));
                    }
                    Condition::revision(key.clone(), old.revision)
                }
                (Some(old), Mode::Put) => Condition::revision(key.clone(), old.revision),
                (None, _) => Condition::absent(key.clone()),
            };
            let prepared =
                self.prepare(call, entry, value.clone(), old.as_ref(), request.force).await?;
            let mut batch =
                Batch::new().when(condition).then(Operation::Put(prepared.item.clone()));
            for condition in prepared.conditions {
                batch = batch.when(condition);
            }
            for operation in prepared.operations {
                batch = batch.then(operation);
            }
            if entry.kind == ApiKind::User && old.is_none() {
                // A password of an earlier user of this name is not this one's.
                batch = batch.then(Operation::Delete(password_key(&name)?));
            }
            let renewed = old.as_ref().filter(|old| {
                told.is_some()
                    && batch.operations.len() == 1
                    && batch.conditions.len() == 1
                    && serde_json::from_slice(&old.value)
                        .is_ok_and(|old| Said::of(&old) == Said::of(&prepared.value))
            });
            if let (Some((host, said)), Some(old)) = (told, renewed)
                && self.inner.presence.adopt(old, host, said, prepared.item.expires, self.now())
            {
                let public = entry.public(old, self.now())?;
                return public
                    .map(|public| public.document)
                    .ok_or_else(|| absent(entry.kind, &name));
            }
            let written = match renewed {
                Some(old) => self.inner.presence.renew(prepared.item.clone(), old.revision).await,
                None => self.commit(batch).await,
            };
            match written {
                Ok(revision) => {
                    if let Some((host, said)) = told {
                        let expires = prepared.item.expires;
                        self.inner.presence.note(&key, host, said, revision, expires, self.now());
                    }
                    let change = if old.is_some() { Change::Updated } else { Change::Created };
                    self.tell(
                        call,
                        entry.kind,
                        &name,
                        Changed { change, value: Some(&prepared.value), expires: prepared.expires },
                    )
                    .await?;
                    let item = Item {
                        key: prepared.item.key,
                        value: prepared.item.value,
                        expires: prepared.item.expires,
                        revision,
                    };
                    return entry
                        .public(&item, self.now())?
                        .map(|public| public.document)
                        .ok_or_else(|| absent(entry.kind, &name));
                }
                Err(access_backend::Error::ConditionFailed { .. }) => match mode {
                    Mode::Update => return Err(changed(entry.kind, &name)),
                    Mode::Create | Mode::Put => {}
                },
                Err(err) => return Err(err.into()),
            }
        }
        Err(Error::Conflict(format!("{} {name:.128} is being changed by others", entry.kind)))
    }

    /// Deletes a document. A resource that an administrator deletes loses its owner too: the name
    /// is free from then on.
    pub(crate) async fn delete(&self, call: &Call, request: proto::DeleteRequest) -> Result<()> {
        let entry = KindEntry::find(&request.kind)?;
        let name = request.name;
        let owner = self.owner_of_document(call, entry.kind, &name).await?;
        self.authorize(call, Verb::Delete, entry.kind, Some(&name), owner.clone()).await?;
        match entry.kind {
            ApiKind::Authority | ApiKind::ClusterConfig => {
                return Err(Error::Invalid(format!("a cluster is not without its {}", entry.kind)));
            }
            ApiKind::Session => {
                return Err(Error::Invalid("recordings cannot be deleted one by one".into()));
            }
            ApiKind::Role => self.check_unused(&RoleName::new(&name)?).await?,
            _ => {}
        }
        let dynamic = self.is_dynamic(entry.kind, &name).await?;
        if let (true, Some(host)) = (dynamic, call.host()) {
            return self.forget_server(host, &name).await;
        }
        let key = entry.key(&name, self.cluster().as_str())?;
        let old = self.inner.storage.backend.get(&key).await?;
        let mut batch = Batch::new().then(Operation::Delete(key.clone()));
        if dynamic {
            for operation in self.release_dynamic(&name).await? {
                batch = batch.then(operation);
            }
        }
        if let Some(old) = &old {
            if !request.revision.is_empty() && request.revision != old.revision.to_string() {
                return Err(changed(entry.kind, &name));
            }
            batch = batch.when(Condition::revision(key, old.revision));
        }
        let released = self.release(call, entry.kind, &name, owner)?;
        match (&old, &released) {
            (None, None) => return Err(absent(entry.kind, &name)),
            (_, Some((resource, _))) => {
                batch = batch.then(Operation::Delete(owner_key(resource)?));
            }
            _ => {}
        }
        batch = self.delete_more(batch, entry.kind, &name).await?;
        match self.commit(batch).await {
            Ok(_) => {}
            Err(access_backend::Error::ConditionFailed { .. }) => {
                return Err(changed(entry.kind, &name));
            }
            Err(err) => return Err(err.into()),
        }
        self.tell(call, entry.kind, &name, Changed::deleted()).await?;
        if let Some((resource, host)) = released {
            self.tell_released(call, &resource, &host).await?;
        }
        Ok(())
    }

    /// The name that becomes free, when an administrator deletes what a host owned.
    fn release(
        &self,
        call: &Call,
        kind: ApiKind,
        name: &str,
        owner: Option<HostId>,
    ) -> Result<Option<(ResourceRef, HostId)>> {
        match (kind.resource(), owner) {
            (Some(kind), Some(owner)) if call.host().is_none() => {
                Ok(Some((ResourceRef { kind, name: ResourceName::new(name)? }, owner)))
            }
            _ => Ok(None),
        }
    }

    /// Adds to a batch what goes with a document.
    async fn delete_more(&self, batch: Batch, kind: ApiKind, name: &str) -> Result<Batch> {
        let ticket = |folder| store::key(["private", "tickets", folder, name]);
        Ok(match kind {
            ApiKind::User => {
                let batch = batch.then(Operation::Delete(password_key(name)?));
                self.discard_invites(batch, &UserName::new(name)?).await?
            }
            ApiKind::Token => batch.then(Operation::Delete(ticket("tokens")?)),
            ApiKind::Invite => batch.then(Operation::Delete(ticket("invites")?)),
            _ => batch,
        })
    }

    /// Fails while users hold a role.
    async fn check_unused(&self, role: &RoleName) -> Result<()> {
        let range = KeyRange::from(KindEntry::of(ApiKind::User)?.prefix()?);
        let mut after = None;
        loop {
            let page = self.inner.storage.backend.range(&range, 1000, after.as_ref()).await?;
            for item in &page.items {
                let user = store::read::<UserSpec>(item)?;
                if user.document.spec.roles.contains(role) {
                    return Err(Error::Precondition(format!(
                        "role {role} is held by user {}: take it from its users first",
                        user.document.metadata.name
                    )));
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

fn changed(kind: ApiKind, name: &str) -> Error {
    Error::Conflict(format!(
        "{kind} {name:.128} has changed since it was read: read it again and repeat the change"
    ))
}
