//! Getting and listing.

use std::borrow::Borrow;

use access_backend::{Cursor, KeyRange, MAX_PAGE_ITEMS};
use access_client::proto;
use access_client::types::read_served;
use access_core::policy::{Action, ApiKind, Target, Verb, account_mode, visible};
use access_core::role::CreateDbUserMode;
use access_core::{HostId, Resource, ResourceKind, ResourceName, ResourceRef};

use super::kinds::{KindEntry, Public};
use super::page::PageBuilder;
use super::view::View;
use crate::admit::context;
use crate::caller::{Call, Caller};
use crate::error::{Error, Result};
use crate::hosts::Owner;
use crate::service::AuthService;

impl AuthService {
    /// One document.
    pub(crate) async fn get(
        &self,
        call: &Call,
        request: proto::GetRequest,
    ) -> Result<proto::Document> {
        let entry = KindEntry::find(&request.kind)?;
        let name = request.name;
        if entry.kind.resource().is_some() {
            return self.get_resource(call, entry, &name).await;
        }
        let owner = self.owner_of_document(call, entry.kind, &name).await?;
        self.authorize(call, Verb::Read, entry.kind, Some(&name), owner).await?;
        let found = self.find(entry, &name).await?.ok_or_else(|| absent(entry.kind, &name))?;
        let view = View::of(call, &self.inner.live.policy().snapshot());
        Ok(view.show(found)?.document)
    }

    /// A resource's document, for whoever may read its kind or see this one.
    async fn get_resource(
        &self,
        call: &Call,
        entry: KindEntry,
        name: &str,
    ) -> Result<proto::Document> {
        let kind = entry.kind;
        let found = self.find(entry, name).await?;
        let target = Target::Api { kind, name: Some(name.into()), owner: None };
        if self.would_allow(call, &Action::Api(Verb::Read), &target) {
            let found = found.ok_or_else(|| absent(kind, name))?;
            return self.with_servers(kind, found).await;
        }
        if let Some(public) = found {
            let resource = resource_in(kind, &public)?;
            if self.would_allow(call, &Action::See, &Target::Resource(resource)) {
                return self.with_servers(kind, public).await;
            }
        }
        // Denied and absent look alike.
        let owner = self.owner_of_document(call, kind, name).await?;
        self.authorize(call, Verb::Read, kind, Some(name), owner).await?;
        let found = self.find(entry, name).await?.ok_or_else(|| absent(kind, name))?;
        self.with_servers(kind, found).await
    }

    /// A page of documents: as they are, unless the caller takes them as they were some seconds ago.
    pub(crate) async fn list(
        &self,
        call: &Call,
        request: proto::ListRequest,
    ) -> Result<proto::ListResponse> {
        let entry = KindEntry::find(&request.kind)?;
        let target = Target::api(entry.kind);
        let all = self.would_allow(call, &Action::Api(Verb::List), &target);
        if !all && entry.kind.resource().is_none() {
            self.authorize(call, Verb::List, entry.kind, None, None).await?;
        }
        let range = KeyRange::from(entry.prefix()?);
        let mut after = match request.page_token.as_str() {
            "" => None,
            name => Some(Cursor::after(entry.key(name, self.cluster().as_str())?)),
        };
        let view = View::of(call, &self.inner.live.policy().snapshot());
        let mut page = PageBuilder::new(request.page_size);
        loop {
            let backend = &self.inner.storage.backend;
            let rows = match request.lately {
                true => backend.range_lately(&range, MAX_PAGE_ITEMS, after.as_ref()).await?,
                false => backend.range(&range, MAX_PAGE_ITEMS, after.as_ref()).await?,
            };
            let now = self.now();
            let mut documents = Vec::with_capacity(rows.items.len());
            for item in &rows.items {
                if let Some(public) = entry.public(item, now)?
                    && has_labels(&public, &request.labels)
                {
                    documents.push(public);
                }
            }
            if !all {
                documents = self.visible_resources(call, entry.kind, documents)?;
            }
            if entry.kind == ApiKind::Db {
                self.tell_own_accounts(call, &mut documents)?;
            }
            self.add_servers(entry.kind, &mut documents, request.lately).await?;
            for public in documents {
                if !page.offer(view.show(public)?.document) {
                    return Ok(page.finish(true));
                }
            }
            match rows.next {
                Some(next) => after = Some(next),
                None => return Ok(page.finish(false)),
            }
        }
    }

    /// Those resources that the caller may see.
    fn visible_resources(
        &self,
        call: &Call,
        kind: ApiKind,
        documents: Vec<Public>,
    ) -> Result<Vec<Public>> {
        let Caller::Verified(who) = &call.caller else { return Ok(Vec::new()) };
        let resources = documents
            .into_iter()
            .map(|public| Ok(Listed { resource: resource_in(kind, &public)?, public }))
            .collect::<Result<Vec<_>>>()?;
        let snapshot = self.inner.live.policy().snapshot();
        let now = self.now();
        let seen = visible(&snapshot, who, &context(call), now, resources);
        Ok(seen.map(|listed: Listed| listed.public).collect())
    }

    /// Says of databases where an account is made for the caller, so that they know as whom to
    /// connect.
    fn tell_own_accounts(&self, call: &Call, documents: &mut [Public]) -> Result<()> {
        let Caller::Verified(who) = &call.caller else { return Ok(()) };
        let Some(name) = who.identity().subject.user() else { return Ok(()) };
        let (snapshot, context, now) =
            (self.inner.live.policy().snapshot(), context(call), self.now());
        for public in documents {
            let resource = resource_in(ApiKind::Db, public)?;
            let mode = account_mode(&snapshot, who, &resource, &context, now);
            if mode != CreateDbUserMode::Off {
                public.document.own_account = name.to_string();
            }
        }
        Ok(())
    }

    /// A document that is there and has not expired.
    pub(crate) async fn find(&self, entry: KindEntry, name: &str) -> Result<Option<Public>> {
        let key = entry.key(name, self.cluster().as_str())?;
        match self.inner.storage.backend.get(&key).await? {
            Some(item) => entry.public(&item, self.now()),
            None => Ok(None),
        }
    }

    /// The host that a document belongs to, as far as documents of the kind belong to hosts. What
    /// administrators registered is the calling host's, among others, when it may serve that.
    pub(crate) async fn owner_of_document(
        &self,
        call: &Call,
        kind: ApiKind,
        name: &str,
    ) -> Result<Option<HostId>> {
        match (kind, kind.resource()) {
            (_, Some(kind)) => match (self.owner_of_name(kind, name).await?, call.host()) {
                (Some(Owner::Host(owner)), _) => Ok(Some(owner)),
                (Some(Owner::Administrators), Some(host)) => {
                    let Some(document) = self.dynamic_database(name).await? else {
                        return Ok(None);
                    };
                    let serves = self.serves(host).await?;
                    Ok(serves.filter(|serves| serves.may(&document)).map(|_| host.clone()))
                }
                (Some(Owner::Administrators) | None, _) => Ok(None),
            },
            (ApiKind::Server, None) => Ok(HostId::new(name).ok()),
            _ => Ok(None),
        }
    }

    /// Whom the name of a resource belongs to.
    pub(super) async fn owner_of_name(
        &self,
        kind: ResourceKind,
        name: &str,
    ) -> Result<Option<Owner>> {
        match ResourceName::new(name) {
            Ok(name) => self.owner_of(&ResourceRef { kind, name }).await,
            Err(_) => Ok(None),
        }
    }

    /// The names of every document of a kind, for error messages and checks.
    pub(crate) async fn names_of(&self, kind: ApiKind) -> Result<Vec<String>> {
        let entry = KindEntry::of(kind)?;
        let range = KeyRange::from(entry.prefix()?);
        let rows = access_backend::read_all(&*self.inner.storage.backend, &range, 10_000).await?;
        Ok(rows.iter().map(|item| entry.name_in(&item.key)).collect())
    }

    /// Where users and agents reach the cluster's proxies: as the proxies tell, or as the cluster
    /// was set up.
    pub(crate) async fn proxy_addresses(&self) -> Result<Vec<String>> {
        use access_client::types::ServerSpec;
        let entry = KindEntry::of(ApiKind::Server)?;
        let (backend, range) = (&*self.inner.storage.backend, KeyRange::from(entry.prefix()?));
        // A proxy tells of itself now and then: some seconds more make no difference.
        let rows = access_backend::read_all_lately(backend, &range, 10_000).await?;
        let mut addresses = Vec::new();
        for item in &rows {
            let server = crate::store::read::<ServerSpec>(item)?;
            for address in server.document.spec.public_addrs {
                if !addresses.contains(&address) && addresses.len() < 32 {
                    addresses.push(address);
                }
            }
        }
        if addresses.is_empty() {
            addresses = self.inner.live.config().proxies.clone();
        }
        Ok(addresses)
    }
}

fn resource_in(kind: ApiKind, public: &Public) -> Result<Resource> {
    read_served(kind, &public.document.json)
        .map(|(resource, _)| resource)
        .map_err(|err| Error::stored(public.metadata.name.as_str(), err))
}

struct Listed {
    resource: Resource,
    public: Public,
}

impl Borrow<Resource> for Listed {
    fn borrow(&self) -> &Resource {
        &self.resource
    }
}

pub(super) fn absent(kind: ApiKind, name: &str) -> Error {
    Error::NotFound(format!("there is no {kind} {name:.128}"))
}

fn has_labels(public: &Public, wanted: &std::collections::HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| public.metadata.labels.get(key) == Some(value))
}
