//! Databases that administrators registered, and the hosts that may serve them.
//!
//! Nobody owns such a name but the administrators. A host may serve it while the document stands,
//! its labels match what the host said when it joined, and the names that its join token was bound
//! to, if any, allow it. This is looked at each time anew: for the certificates in which proxies
//! see it, for what the host tells of it and is told, and for each certificate for an account.
//! A host cannot widen by itself what it joined with, so that a stolen one draws nothing more to
//! itself than what it was there for.

use access_backend::KeyRange;
use access_client::types::{
    DbDocument, DbSpec, MAX_RESOURCES, NameBinding, ResourceMatcher, ResourceMatchers,
};
use access_core::identity::Service;
use access_core::policy::ApiKind;
use access_core::{HostId, ResourceKind, ResourceName, ResourceRef};

use super::{Claims, HostRecord, host_key};
use crate::error::{Error, Result};
use crate::resources::KindEntry;
use crate::service::AuthService;
use crate::store;

/// Which of these databases a host may serve.
#[derive(Clone, Debug)]
pub(crate) struct Serves {
    matchers: ResourceMatchers,
    bound: Vec<NameBinding>,
}

impl Serves {
    fn new<'a>(
        matchers: impl IntoIterator<Item = &'a ResourceMatcher>,
        bound: &[NameBinding],
    ) -> Result<Self> {
        let matchers = ResourceMatchers::compile(matchers)
            .map_err(|err| Error::Invalid(format!("databases: {err}")))?;
        Ok(Self { matchers, bound: bound.to_vec() })
    }

    /// Whether it may serve one.
    pub(crate) fn may(&self, document: &DbDocument) -> bool {
        document.spec.is_dynamic()
            && self.matchers.matches(&document.metadata.labels)
            && resource(document).is_some_and(|resource| {
                self.bound.is_empty() || self.bound.iter().any(|name| name.covers(&resource))
            })
    }
}

fn resource(document: &DbDocument) -> Option<ResourceRef> {
    let name = ResourceName::new(&document.metadata.name).ok()?;
    Some(ResourceRef { kind: ResourceKind::Database, name })
}

impl AuthService {
    /// Which of these databases a host may serve; `None` for one that is there for no databases.
    pub(crate) async fn serves(&self, host: &HostId) -> Result<Option<Serves>> {
        let row = store::row::<HostRecord>(&*self.inner.storage.backend, &host_key(host)?).await?;
        let record = row.map(|row| row.value);
        let record = record.filter(|record| record.services.contains(&Service::Db));
        record.map(|record| Serves::new(&record.databases, &record.bound)).transpose()
    }

    /// The document of such a database, if it stands.
    pub(crate) async fn dynamic_database(&self, name: &str) -> Result<Option<DbDocument>> {
        let key = KindEntry::of(ApiKind::Db)?.key(name, self.cluster().as_str())?;
        let stored = store::document::<DbSpec>(&*self.inner.storage.backend, &key).await?;
        Ok(stored.map(|stored| stored.document).filter(|document| {
            let expires = document.metadata.expires;
            document.spec.is_dynamic() && expires.is_none_or(|expires| expires > self.now())
        }))
    }

    /// What a host's certificates name: what it claims, and such databases as it may serve, the
    /// first by name if there are too many.
    pub(super) async fn with_dynamic(
        &self,
        bound: &[NameBinding],
        claims: &Claims,
    ) -> Result<Vec<ResourceRef>> {
        let mut resources = claims.resources.clone();
        if claims.databases.is_empty() {
            return Ok(resources);
        }
        let serves = Serves::new(&claims.databases, bound)?;
        let entry = KindEntry::of(ApiKind::Db)?;
        let range = KeyRange::from(entry.prefix()?);
        let backend = &*self.inner.storage.backend;
        let mut after = None;
        loop {
            let page =
                backend.range(&range, access_backend::MAX_PAGE_ITEMS, after.as_ref()).await?;
            for item in &page.items {
                let Some(public) = entry.public(item, self.now())? else { continue };
                // One that a later version wrote, and this one cannot read, is served by nobody.
                let Ok(document) = DbDocument::from_json(&public.document.json) else { continue };
                if resources.len() < MAX_RESOURCES && serves.may(&document) {
                    resources.extend(resource(&document));
                }
            }
            match page.next {
                Some(next) if resources.len() < MAX_RESOURCES => after = Some(next),
                _ => return Ok(resources),
            }
        }
    }
}
