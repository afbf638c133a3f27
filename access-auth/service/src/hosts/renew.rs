//! Renewing a host's certificates, by the host itself.
//!
//! Each renewal counts one further. A copy of a host's keys that renews too makes the counts
//! disagree, and then neither renews any more until an administrator looks. A host whose answer
//! was lost asks again with the same new keys, and gets it.

use access_backend::{Batch, Condition, Operation};
use access_client::proto;

use super::{Claims, HostRecord, host_key};
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::issue::{HostGrant, Keys};
use crate::service::AuthService;
use crate::store;

const ATTEMPTS: usize = 8;

impl AuthService {
    /// New certificates for the host that calls.
    pub(crate) async fn renew_host(
        &self,
        call: &Call,
        request: proto::RenewHostRequest,
    ) -> Result<proto::Credentials> {
        let who = call.identity().ok_or_else(|| Error::Denied("this is for hosts".into()))?;
        let (id, _) = who.host().ok_or_else(|| Error::Denied("this is for hosts".into()))?;
        let held = who.identity().generation;
        let keys = Keys::read(request.keys)?;
        let claims = Claims::read(request.claims, self.cluster(), id)?;
        let digest = keys.digest()?;
        let key = host_key(id)?;
        for _ in 0..ATTEMPTS {
            let row = store::row::<HostRecord>(&*self.inner.storage.backend, &key)
                .await?
                .ok_or_else(|| {
                    Error::Denied(
                        "this host was removed from the cluster: join again with a new token"
                            .into(),
                    )
                })?;
            let record = row.value;
            let repeats = held.saturating_add(1) == record.generation && record.keys == digest;
            if held != record.generation && !repeats {
                tracing::warn!(host = %id, held, known = record.generation, "certificates of a host were copied");
                return Err(Error::Denied(format!(
                    "certificates of this host were renewed elsewhere (renewal {} is known, this \
                     one is {held}): if its keys were not copied, start it with an empty data \
                     directory and a new token",
                    record.generation
                )));
            }
            if let Some(service) = claims.services.iter().find(|s| !record.services.contains(s)) {
                return Err(Error::Denied(format!(
                    "this host did not join as {service}: join again with a token for it"
                )));
            }
            if let Some(wider) = claims.databases.iter().find(|m| !record.databases.contains(m)) {
                return Err(Error::Denied(format!(
                    "this host did not join to serve databases by {}: join again with a token of \
                     the type db",
                    wider.to_json()
                )));
            }
            let generation = if repeats { held } else { record.generation }.saturating_add(1);
            let next = HostRecord { generation, keys: digest.clone(), ..record };
            let batch = Batch::new()
                .when(Condition::revision(key.clone(), row.revision))
                .then(Operation::Put(store::new_row(key.clone(), &next)?));
            let batch = self.claim(batch, id, &next.bound, &claims.resources).await?;
            let batch = self.keep_apart(batch, id, &claims.public_names).await?;
            match self.commit(batch).await {
                Ok(_) => {
                    let resources = self.with_dynamic(&next.bound, &claims).await?;
                    let Claims { services, public_names, .. } = claims;
                    let id = id.clone();
                    let grant = HostGrant { id, services, resources, public_names, generation };
                    return self.issue_host(grant, keys).await;
                }
                Err(access_backend::Error::ConditionFailed { .. }) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Err(Error::Conflict("this host renews several times at once: try again".into()))
    }
}
