//! What administrators do that is more than writing a document: the cluster's status, and
//! certificates for others.

use std::time::Duration;

use access_ca::SanName;
use access_client::proto;
use access_client::types::DbProtocol;
use access_core::UserName;
use access_core::policy::ApiKind;
use serde_json::json;

use crate::caller::Call;
use crate::error::{Error, Result};
use crate::hosts::check_public_name;
use crate::issue::Keys;
use crate::service::AuthService;

/// How long certificates of servers outside the cluster hold when nobody says.
const SERVER_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest that they hold.
const MAX_SERVER_TTL: Duration = Duration::from_secs(5 * 365 * 24 * 3600);

impl AuthService {
    /// How the cluster is doing.
    pub(crate) async fn status(&self) -> Result<proto::StatusResponse> {
        let config = self.inner.live.config();
        let backend = &self.inner.storage.backend;
        let health = backend.health().await?;
        let capabilities = backend.capabilities();
        let mut counts = serde_json::Map::new();
        for kind in [ApiKind::User, ApiKind::Role, ApiKind::Node, ApiKind::Server, ApiKind::Lock] {
            counts.insert(kind.as_str().into(), self.count(kind).await?.into());
        }
        let authorities: Vec<_> = self
            .inner
            .live
            .authorities()
            .public()
            .map(|authority| {
                let pins = authority.pins().map_err(|err| Error::stored("authority", err))?;
                Ok(json!({
                    "kind": authority.kind,
                    "ssh_keys": authority.ssh.len(),
                    "tls_roots": authority.tls.len(),
                    "ca_pins": pins,
                }))
            })
            .into_iter()
            .collect::<Result<_>>()?;
        let mut store = serde_json::to_value(backend.report().await?)
            .map_err(|err| Error::Internal(err.to_string()))?;
        let more = json!({
            "engine": capabilities.engine,
            "durable": capabilities.durable,
            "shared": capabilities.shared,
            "watches": health.watches,
            "pending_writes": health.pending_writes,
        });
        if let (Some(store), serde_json::Value::Object(more)) = (store.as_object_mut(), more) {
            store.extend(more);
        }
        let detail = json!({
            "cluster_id": config.cluster_id,
            "created_at": config.created_at,
            "backend": store,
            "counts": counts,
            "authorities": authorities,
            "proxies": self.proxy_addresses().await?,
        });
        Ok(proto::StatusResponse {
            cluster_name: config.cluster_name.as_str().to_owned(),
            version: crate::VERSION.to_owned(),
            ca_pins: self.pin_texts()?,
            detail: detail.to_string().into_bytes(),
        })
    }

    async fn count(&self, kind: ApiKind) -> Result<u64> {
        let range =
            access_backend::KeyRange::from(crate::resources::KindEntry::of(kind)?.prefix()?);
        let (mut count, mut after) = (0, None);
        loop {
            let page = self
                .inner
                .storage
                .backend
                .range_lately(&range, access_backend::MAX_PAGE_ITEMS, after.as_ref())
                .await?;
            count += u64::try_from(page.items.len()).unwrap_or(0);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(count),
            }
        }
    }

    /// Certificates for a user, without their password: identity files.
    pub(crate) async fn sign_user(
        &self,
        call: &Call,
        request: proto::SignUserRequest,
    ) -> Result<proto::Credentials> {
        let name = UserName::new(&request.user)?;
        let user = self.user(&name).await?.document;
        let keys = Keys::read(request.keys)?;
        let asked = (request.ttl_seconds > 0).then(|| Duration::from_secs(request.ttl_seconds));
        self.issue_user(&user, keys, asked, call.peer.ip()).await
    }

    /// Certificates for a server that is no member of the cluster.
    pub(crate) async fn sign_host(
        &self,
        request: proto::SignHostRequest,
    ) -> Result<proto::Credentials> {
        let keys = Keys::read(request.keys)?;
        if request.names.is_empty() || request.names.len() > 64 {
            return Err(Error::Invalid("1 to 64 names or addresses are needed".into()));
        }
        let names = request
            .names
            .iter()
            .map(|name| {
                let name: SanName = name.parse()?;
                // Whoever has such a key answers for every name that it covers.
                if !request.allow_wildcard && name.dns().is_some_and(|dns| dns.contains('*')) {
                    return Err(Error::Invalid(format!(
                        "{name} covers every name below it: write the names out, or add \
                         --allow-wildcard"
                    )));
                }
                check_public_name(&name, self.cluster())?;
                if name.dns() == Some(&format!("proxy.{}", self.cluster())) {
                    return Err(Error::Denied(format!("{name} is reserved")));
                }
                Ok(name)
            })
            .collect::<Result<_>>()?;
        let ttl = crate::users::ttl(request.ttl_seconds, SERVER_TTL, MAX_SERVER_TTL)?;
        match request.database.as_str() {
            "" => self.issue_server(names, keys, ttl).await,
            protocol => {
                let protocol = DbProtocol::parse(protocol)?;
                self.issue_database_server(protocol, names, keys, ttl).await
            }
        }
    }
}
