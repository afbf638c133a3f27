//! Certificates for databases: for their servers, by administrators, and for accounts on them, for
//! the agents that serve them.
//!
//! An agent that asks for an account's certificate proves two things and is believed nothing else:
//! that it owns the database (by its own certificate, and by the name's owner here), and who the
//! user is (by the user's own certificates, which are verified here). Whether that user may use
//! the account is decided here again, over what stands here of the database.

use std::net::IpAddr;
use std::time::Duration;

use access_ca::{DatabaseClientDraft, DatabaseServer, DatabaseServerDraft, IssuingPolicy, SanName};
use access_client::proto;
use access_client::types::{AdminUser, DbProtocol, DbSpec, Served};
use access_core::gate::Denied;
use access_core::identity::Subject;
use access_core::policy::{Action, ApiKind, Context, Target};
use access_core::role::CreateDbUserMode;
use access_core::{
    HostId, Login, Resource, ResourceKind, ResourceName, ResourceRef, TraceId, VerifiedIdentity,
};
use rustls_pki_types::CertificateDer;

use crate::caller::Call;
use crate::error::{Error, Result};
use crate::hosts::Owner;
use crate::issue::{Keys, public};
use crate::resources::KindEntry;
use crate::service::AuthService;
use crate::store;

/// The longest chain of a user that is read.
const MAX_CHAIN: usize = 5;
/// The longest name of a database on a server, in bytes.
const MAX_DB_NAME: usize = 128;

impl AuthService {
    /// A client certificate for an account on a database, for the agent that serves it.
    pub(crate) async fn issue_database_certificate(
        &self,
        call: &Call,
        request: proto::DatabaseCertificateRequest,
    ) -> Result<proto::DatabaseCertificate> {
        let agent = call.host().ok_or_else(|| Error::Denied("this is for hosts".into()))?;
        self.inner.db_certificates.take(agent, self.now())?;
        let proto::DatabaseCertificateRequest {
            database,
            user_chain,
            db_user,
            db_name,
            public_key,
            client_address,
            trace_id,
            admin_user,
        } = request;
        let database =
            ResourceRef { kind: ResourceKind::Database, name: ResourceName::new(&database)? };
        let (user, account) = (self.user_of(user_chain)?, Login::new(&db_user)?);
        if db_name.is_empty() || db_name.len() > MAX_DB_NAME {
            return Err(Error::Invalid(format!("db_name: 1 to {MAX_DB_NAME} bytes are needed")));
        }
        access_ca::check_tls_key(&public_key)?;
        let resource = self.served_database(call, agent, &database).await?;
        let admin = resource.admin_user.clone();
        let action = Action::Database { user: account.clone(), database: db_name };
        let context = Context {
            client_addr: read_address(&client_address)?,
            trace_id: (!trace_id.is_empty()).then(|| TraceId::new(&trace_id)).transpose()?,
        };
        let permit = self
            .inner
            .gate
            .authorize(&user, action, Target::Resource(resource), context)
            .await
            .map_err(refusal)?;

        let now = self.now();
        let ttl = DatabaseClientDraft::TTL;
        let mut policy = IssuingPolicy::new(now, ttl);
        let subject = if admin_user {
            // What is made for the session is undone after it: this one may outlive the user's
            // certificate, by its own few minutes.
            maker(admin, permit.grant().database.create_user)?
        } else {
            let ends = user.validity().not_after().min(permit.grant().limits.expires);
            policy.not_after = Some(ends);
            account.clone()
        };
        let draft = DatabaseClientDraft {
            cluster: self.cluster().clone(),
            account: subject.clone(),
            tls_public_key: public_key,
            ttl,
        };
        let authorities = self.inner.live.authorities();
        let signed = draft.vet(&policy)?.sign(&authorities.db_client)?;
        let said = [
            ("user", user.name()),
            ("db_user", subject.as_str()),
            ("db_service", database.name.as_str()),
            ("requester", agent.as_str()),
        ];
        let making = admin_user.then_some(("db_user_made", account.as_str()));
        self.record_with("db_client", said.into_iter().chain(making), &signed).await?;
        Ok(proto::DatabaseCertificate {
            tls_chain: signed.tls_chain().into_iter().map(|cert| cert.to_vec()).collect(),
            db_authority: Some(public(authorities.db.trusted())?),
            not_before: signed.validity().not_before().as_millis(),
            not_after: signed.validity().not_after().as_millis(),
        })
    }

    /// The user whose certificates an agent was shown.
    fn user_of(&self, chain: Vec<Vec<u8>>) -> Result<VerifiedIdentity> {
        if chain.len() > MAX_CHAIN {
            return Err(Error::Invalid(format!("user_chain: {MAX_CHAIN} certificates at most")));
        }
        let chain: Vec<CertificateDer<'_>> = chain.into_iter().map(CertificateDer::from).collect();
        let who = self
            .inner
            .live
            .trust()
            .load()
            .verify_tls(&chain, self.now())
            .map_err(|err| Error::Denied(format!("the user's certificate: {err}")))?;
        if who.identity().subject.user().is_none() {
            return Err(Error::Denied("the user's certificate: it is a host's".into()));
        }
        Ok(who)
    }

    /// The database, as it stands here, when it is the calling agent's. A database of another
    /// agent and one that does not exist look alike.
    async fn served_database(
        &self,
        call: &Call,
        agent: &HostId,
        database: &ResourceRef,
    ) -> Result<Resource> {
        let certified = call.identity().is_some_and(|who| {
            matches!(&who.identity().subject, Subject::Host { resources, .. }
                if resources.contains(database))
        });
        let not_served = || Error::Denied(format!("this host does not serve {database}"));
        match self.owner_of(database).await? {
            Some(Owner::Host(owner)) if certified && owner == *agent => {}
            Some(Owner::Administrators) if certified => {
                let document = self.dynamic_database(database.name.as_str()).await?;
                let serves = self.serves(agent).await?;
                let document = document
                    .filter(|one| serves.is_some_and(|serves| serves.may(one)))
                    .ok_or_else(not_served)?;
                let mut resource = document.spec.resource(&document.metadata)?;
                resource.host = agent.clone();
                return Ok(resource);
            }
            _ => return Err(not_served()),
        }
        let key =
            KindEntry::of(ApiKind::Db)?.key(database.name.as_str(), self.cluster().as_str())?;
        let stored = store::document::<DbSpec>(&*self.inner.storage.backend, &key)
            .await?
            .filter(|stored| stored.document.metadata.expires.is_none_or(|end| end > self.now()))
            .ok_or_else(|| {
                Error::Precondition(format!(
                    "{database} is not registered at the moment: its agent has to write it first"
                ))
            })?;
        stored.document.spec.resource(&stored.document.metadata).map_err(Error::from).and_then(
            |resource| {
                if resource.host == *agent { Ok(resource) } else { Err(not_served()) }
            },
        )
    }

    /// A certificate for a self-hosted database server.
    pub(crate) async fn issue_database_server(
        &self,
        protocol: DbProtocol,
        names: Vec<SanName>,
        keys: Keys,
        ttl: Duration,
    ) -> Result<proto::Credentials> {
        let tls_public_key = keys.tls.ok_or(access_ca::Error::NoKey)?;
        let shown = names.first().map(ToString::to_string).unwrap_or_default();
        let server = match protocol {
            DbProtocol::Postgres => DatabaseServer::Plain,
            DbProtocol::Cockroachdb => DatabaseServer::CockroachNode,
        };
        let cluster = self.cluster().clone();
        let draft = DatabaseServerDraft { cluster, server, names, tls_public_key, ttl };
        let authorities = self.inner.live.authorities();
        let signed = draft.vet(&IssuingPolicy::new(self.now(), ttl))?.sign(&authorities.db)?;
        self.record_with("db", [("user", shown.as_str())], &signed).await?;
        let trusted = [authorities.db.trusted(), authorities.db_client.trusted()];
        self.credentials_with(&signed, None, &trusted)
    }
}

/// The account that makes others on a database, when one is to be made there. An agent can name
/// none that only an administrator may, by registering it as such.
fn maker(admin: Option<Login>, mode: CreateDbUserMode) -> Result<Login> {
    let denied = |why: &str| Err(Error::Denied(format!("no account is made for this user: {why}")));
    match admin {
        _ if mode == CreateDbUserMode::Off => denied("no role of theirs says so"),
        None => denied("the database has no admin user"),
        Some(name) => match AdminUser::new(name.clone()).check() {
            Ok(()) => Ok(name),
            Err(err) => denied(&err.to_string()),
        },
    }
}

fn read_address(text: &str) -> Result<Option<IpAddr>> {
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(|address: IpAddr| Some(address.to_canonical()))
            .map_err(|_| Error::Invalid(format!("client_address: {text:.64} is no address"))),
    }
}

/// A denial to the agent. Whatever it is about the user, the agent's own certificate is good.
fn refusal(denied: Denied) -> Error {
    match denied {
        Denied::Audit(err) => err.into(),
        Denied::Stale { .. } | Denied::TooManyConnections { .. } => Error::Limited(denied.public()),
        other => Error::Denied(other.public()),
    }
}
