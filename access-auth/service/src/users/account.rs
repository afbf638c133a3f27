//! Accounts: what stands in a user's document, and voiding their certificates.

use std::time::Duration;

use access_backend::{Batch, Condition, Operation};
use access_client::types::{UserDocument, UserSpec};
use access_core::audit::events::UserLogout;
use access_core::audit::{AuditSink, Durability};
use access_core::document::{Document, nearest};
use access_core::policy::ApiKind;
use access_core::{RoleName, Timestamp, UserName};

use super::user_key;
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::service::AuthService;
use crate::store;

/// How often a change is tried again when another came in between.
pub(crate) const ATTEMPTS: usize = 8;
/// How far the clocks of two replicas may be apart.
const MAX_APART: Duration = Duration::from_secs(10);

impl AuthService {
    /// Fails when a user's document names what does not exist.
    pub(crate) async fn check_user(&self, user: &UserDocument) -> Result<()> {
        UserName::new(&user.metadata.name)
            .map_err(|err| Error::Invalid(format!("metadata.name: {err}")))?;
        if user.spec.roles.len() > 100 {
            return Err(Error::Invalid("spec.roles: a user may hold 100 roles at most".into()));
        }
        for role in &user.spec.roles {
            self.check_role_exists(role, "spec.roles").await?;
        }
        Ok(())
    }

    /// Fails when a role does not exist, with the nearest one that does.
    pub(crate) async fn check_role_exists(&self, role: &RoleName, field: &str) -> Result<()> {
        if self.inner.live.policy().snapshot().has_role(role) {
            return Ok(());
        }
        let roles = self.names_of(ApiKind::Role).await?;
        if roles.iter().any(|known| known == role.as_str()) {
            return Ok(());
        }
        Err(Error::Invalid(match nearest(role.as_str(), roles.iter().map(String::as_str)) {
            Some(near) => {
                format!("{field}: role {role:?} does not exist, did you mean {near:?}?")
            }
            None => format!(
                "{field}: role {role:?} does not exist, use one of: {}",
                roles.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
        }))
    }

    /// Voids all certificates of a user that were issued so far, by whichever replica: up to a
    /// moment that no replica's clock shows yet. What is issued before that comes says that it is
    /// of that moment.
    pub(crate) fn void(&self, user: &mut UserSpec) {
        // Certificates of just that moment may have been issued already.
        let next = user.valid_after.plus(Duration::from_millis(1));
        user.valid_after = self.now().plus(MAX_APART).max(next);
    }

    /// Voids the certificates of whoever calls.
    pub(crate) async fn logout(&self, call: &Call) -> Result<()> {
        let user = call
            .identity()
            .and_then(|who| who.identity().subject.user())
            .ok_or_else(|| Error::Denied("this is for users, not for hosts".into()))?
            .clone();
        self.change_user(&user, |spec| self.void(spec)).await?;
        let event = UserLogout { user: user.as_str().into(), addr_remote: call.peer.remote() };
        Ok(self.inner.audit.accept(event.into(), Durability::Synced).await?)
    }

    /// A user who exists.
    pub(crate) async fn user(&self, name: &UserName) -> Result<store::Stored<UserSpec>> {
        let backend = &*self.inner.storage.backend;
        let stored = store::document::<UserSpec>(backend, &user_key(name.as_str())?).await?;
        stored
            .filter(|user| !is_past(user.document.metadata.expires, self.now()))
            .ok_or_else(|| Error::NotFound(format!("there is no user {name}")))
    }

    /// Changes a user's document, whatever else changes it meanwhile.
    async fn change_user(&self, name: &UserName, change: impl Fn(&mut UserSpec)) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let store::Stored { mut document, revision } = self.user(name).await?;
            change(&mut document.spec);
            let key = user_key(name.as_str())?;
            let batch = Batch::new()
                .when(Condition::revision(key.clone(), revision))
                .then(put(key, &document)?);
            match self.commit(batch).await {
                Ok(_) => return Ok(()),
                Err(access_backend::Error::ConditionFailed { .. }) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Err(Error::Conflict(format!("user {name} is being changed by others: try again")))
    }
}

pub(super) fn put(key: access_backend::Key, user: &Document<UserSpec>) -> Result<Operation> {
    Ok(Operation::Put(store::new_document(key, user)?))
}

/// Whether a moment has come.
pub(crate) fn is_past(moment: Option<Timestamp>, now: Timestamp) -> bool {
    moment.is_some_and(|moment| moment <= now)
}
