//! No role is written that a host which enforces it is too old to read: it would deny everything
//! to those who hold the role.

use access_backend::KeyRange;
use access_client::types::{DbDocument, RoleDocument, ServerSpec, read_served};
use access_core::policy::ApiKind;
use access_core::role::RoleField;

use super::kinds::KindEntry;
use crate::error::{Error, Result};
use crate::service::AuthService;
use crate::store;

/// The kinds of document by which hosts that enforce tell that they are up.
const ENFORCERS: [ApiKind; 6] =
    [ApiKind::Server, ApiKind::Node, ApiKind::Db, ApiKind::App, ApiKind::Kube, ApiKind::Desktop];
/// How many hosts an error names.
const NAMED: usize = 8;

impl AuthService {
    /// Fails when a role has a field that an enforcer does not know.
    pub(super) async fn check_enforcers(&self, role: &RoleDocument) -> Result<()> {
        let spec = serde_json::to_value(&role.spec);
        let spec = spec.map_err(|err| Error::Internal(err.to_string()))?;
        let fields = self.inner.role_fields.iter().filter(|field| field.is_used_in(&spec));
        let Some(newest) = fields.max_by_key(|field| field.since) else { return Ok(()) };
        let old = self.older_than(newest).await?;
        if old.is_empty() {
            return Ok(());
        }
        let more = match old.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named: Vec<_> = old.iter().take(NAMED).map(String::as_str).collect();
        Err(Error::Precondition(format!(
            "spec.{}: {}{more} would not know this field, and deny everything to those who hold \
             the role: upgrade first, or add --force",
            newest.path,
            named.join(", "),
        )))
    }

    /// Enforcers that are up and older than a field.
    async fn older_than(&self, field: &RoleField) -> Result<Vec<String>> {
        let mut old = Vec::new();
        for kind in ENFORCERS {
            let entry = KindEntry::of(kind)?;
            let range = KeyRange::from(entry.prefix()?);
            let mut after = None;
            loop {
                let backend = &self.inner.storage.backend;
                let page =
                    backend.range(&range, access_backend::MAX_PAGE_ITEMS, after.as_ref()).await?;
                for item in &page.items {
                    let Some(public) = entry.public(item, self.now())? else { continue };
                    let schema = match kind {
                        ApiKind::Server => {
                            store::read::<ServerSpec>(item)?.document.spec.role_schema
                        }
                        kind => {
                            let json = &public.document.json;
                            // Its agents have told of themselves, below.
                            if kind == ApiKind::Db
                                && DbDocument::from_json(json).is_ok_and(|db| db.spec.is_dynamic())
                            {
                                continue;
                            }
                            read_served(kind, json)
                                .map_err(|err| Error::stored(item.key.as_str(), err))?
                                .1
                        }
                    };
                    if schema.max(1) < field.since {
                        old.push(format!("{kind}/{}", public.document.name));
                    }
                }
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        for (name, servers) in self.all_servers().await? {
            if servers.iter().any(|server| server.role_schema.max(1) < field.since) {
                old.push(format!("{}/{name}", ApiKind::Db));
            }
        }
        Ok(old)
    }
}
