//! What a connection asks for, and what is written down when it is nothing that could be decided
//! over.

use std::net::SocketAddr;
use std::sync::Arc;

use access_core::audit::events::{Auth, Outcome};
use access_core::audit::{AuditSink, Durability, Text};
use access_core::{Login, ResourceRef, UserName, VerifiedIdentity};

use super::Parts;
use crate::database::Database;
use crate::machine::Asked;
use crate::wire::{Failure, sqlstate};

/// What a client with a certificate of the cluster asks for, as the gate can be asked for it.
pub(super) struct Wanted<'a> {
    pub(super) who: &'a VerifiedIdentity,
    pub(super) name: UserName,
    pub(super) asked: Asked,
    /// The account.
    pub(super) user: Login,
    pub(super) database: Arc<Database>,
}

impl<'a> Wanted<'a> {
    /// # Errors
    /// The [`Failure`] for a client that shows no certificate, or names what nobody can have.
    pub(super) fn new(
        parts: &Parts,
        peer: Option<&'a VerifiedIdentity>,
        asked: Asked,
        resource: &ResourceRef,
    ) -> Result<Self, Failure> {
        let who = peer.ok_or_else(|| {
            denied("connection requires a client certificate of the cluster")
                .hint("log in, and have one made for the database: access db login")
        })?;
        let user = Login::new(&asked.user).map_err(|err| denied(err.to_string()))?;
        let name = UserName::new(who.name()).map_err(|err| denied(err.to_string()))?;
        let database = parts.databases.get(resource).ok_or_else(|| {
            tracing::warn!(%resource, "a connection for a database that is not served here");
            not_allowed(NOT_ALLOWED, &asked, resource)
        })?;
        Ok(Self { who, name, asked, user, database })
    }
}

/// A connection that comes to nothing before there is anything to decide.
pub(crate) struct Refused<'a> {
    /// Whose certificate it showed.
    pub(crate) who: Option<&'a str>,
    /// The account that it asked for.
    pub(crate) login: Option<&'a str>,
    pub(crate) resource: &'a ResourceRef,
    pub(crate) client_addr: Option<SocketAddr>,
}

impl Refused<'_> {
    /// Writes it down. It is refused whether that can be done or not.
    pub(super) async fn record(&self, audit: &Arc<dyn AuditSink>, failure: &Failure) {
        let event = Auth {
            outcome: Outcome::failed(failure.message.as_str()),
            user: self.who.unwrap_or("unknown").into(),
            login: self.login.map(Into::into),
            addr_remote: self.client_addr.map(Text::of),
            server_hostname: Some(self.resource.name.as_str().into()),
            proto: Some("db".into()),
        };
        if let Err(err) = audit.accept(event.into(), Durability::Soon).await {
            tracing::warn!(%err, "a refusal could not be recorded");
        }
    }
}

pub(super) fn denied(message: impl Into<String>) -> Failure {
    Failure::fatal(sqlstate::INVALID_AUTHORIZATION, message)
}

/// What [`Reason::public`](access_core::policy::Reason::public) says of what is denied or absent.
const NOT_ALLOWED: &str = "access denied, or there is no such thing";

/// A denial, which looks the same for a database that is not there.
pub(super) fn not_allowed(why: &str, asked: &Asked, database: &ResourceRef) -> Failure {
    let failure = denied(why);
    if why != NOT_ALLOWED {
        return failure;
    }
    failure.hint(format!(
        "ask for a role that allows the database {} (db_labels), the user {} (db_users) and the \
         database name {} (db_names)",
        database.name, asked.user, asked.database
    ))
}
