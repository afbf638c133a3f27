//! Logging in with a password.

use std::time::Duration;

use access_client::proto;
use access_client::types::UserDocument;
use access_core::UserName;
use access_core::audit::events::{Outcome, UserLogin, UserLoginCode};
use access_core::audit::{AuditSink, Durability};
use zeroize::Zeroizing;

use super::{Password, password_key};
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::issue::Keys;
use crate::limits::source_key;
use crate::passwords::MAX_BYTES;
use crate::service::AuthService;
use crate::store;

/// What everybody is told whose name or password is wrong, whichever it is.
const REFUSED: &str = "invalid user name or password";

impl AuthService {
    /// Certificates against a password. The keys are read first, so that what cannot be certified
    /// costs no try.
    pub(crate) async fn login(
        &self,
        call: &Call,
        request: proto::LoginRequest,
    ) -> Result<proto::Credentials> {
        let proto::LoginRequest { user, password, keys, ttl_seconds, totp: _ } = request;
        let password = Zeroizing::new(password);
        let keys = Keys::read(keys)?;
        let tried = format!("{}@{user:.128}", source_key(call.peer.ip()));
        let _of_connection = match call.peer.visit() {
            Some(visit) => Some(visit.login().await?),
            None => None,
        };
        let turn = self.inner.tries.turn(&tried).await?;
        match self.verify_login(&user, password).await {
            Ok(Ok(document)) => {
                self.inner.tries.succeeded(turn).await?;
                let asked = (ttl_seconds > 0).then(|| Duration::from_secs(ttl_seconds));
                let issued = self.issue_user(&document, keys, asked, call.peer.ip()).await;
                let why = issued.as_ref().err().map(ToString::to_string);
                self.record_login(call, &user, why).await?;
                issued
            }
            Ok(Err(why)) => {
                let counted = self.inner.tries.failed(turn).await;
                self.record_login(call, &user, Some(why.to_owned())).await?;
                counted?;
                Err(Error::Unauthenticated(REFUSED.into()))
            }
            Err(err) => Err(err),
        }
    }

    /// The user whose password it is, or why it is nobody's. Takes as long for users who are not
    /// there.
    async fn verify_login(
        &self,
        user: &str,
        password: Zeroizing<String>,
    ) -> Result<Result<UserDocument, &'static str>> {
        let backend = &*self.inner.storage.backend;
        let name = UserName::new(user).ok().filter(|_| password.len() <= MAX_BYTES);
        let (document, stored) = match &name {
            Some(name) => {
                let document = match self.user(name).await {
                    Ok(user) => Some(user.document),
                    Err(Error::NotFound(_)) => None,
                    Err(err) => return Err(err),
                };
                let stored = store::row::<Password>(backend, &password_key(name.as_str())?).await?;
                (document, stored.map(|row| row.value.hash))
            }
            None => (None, None),
        };
        let password =
            if password.len() <= MAX_BYTES { password } else { Zeroizing::new(String::new()) };
        let has_password = stored.is_some();
        let same = self.inner.passwords.verify(password, stored).await?;
        Ok(match document {
            None => Err("no such user"),
            Some(_) if !has_password => Err("the user has set no password yet"),
            Some(_) if !same => Err("wrong password"),
            Some(user) if user.spec.locked => Err("the user is locked"),
            Some(user) => Ok(user),
        })
    }

    async fn record_login(&self, call: &Call, user: &str, why: Option<String>) -> Result<()> {
        let event = UserLogin {
            code: if why.is_none() { UserLoginCode::Local } else { UserLoginCode::LocalFailed },
            outcome: why.map_or_else(Outcome::succeeded, Outcome::failed),
            user: user.into(),
            method: "local".into(),
            addr_remote: call.peer.remote(),
        };
        Ok(self.inner.audit.accept(event.into(), Durability::Synced).await?)
    }
}
