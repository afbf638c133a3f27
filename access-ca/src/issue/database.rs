//! Certificates for databases: for their servers, and for the accounts on them.
//!
//! Neither carries an identity of the cluster, and neither is signed by an authority that vouches
//! for one: whoever has their keys is nobody in the cluster.

use std::time::Duration;

use access_core::identity::AuthorityKind;
use access_core::{ClusterName, Login};

use super::names::SanName;
use super::policy::IssuingPolicy;
use super::vetted::{Vetted, VettedParts};
use super::x509::{KeyUse, VettedTls};
use crate::error::{Error, Result, shown};
use crate::subject_key::check_tls_key;

/// The longest common name (RFC 5280, appendix A.1, `ub-common-name`), in characters.
const MAX_COMMON_NAME: usize = 64;

/// What a database server does with its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseServer {
    /// It serves, under its names: PostgreSQL and most others.
    Plain,
    /// It serves, and connects to the cluster's other nodes with the same certificate. CockroachDB
    /// knows its nodes by the common name `node`, in certificates for server and client use.
    CockroachNode,
}

/// A certificate for a self-hosted database server, signed by the [`AuthorityKind::Db`].
#[derive(Clone, Debug)]
pub struct DatabaseServerDraft {
    /// The cluster whose authority signs it.
    pub cluster: ClusterName,
    /// What it does with the certificate.
    pub server: DatabaseServer,
    /// Names and addresses that it is reached by; at least one.
    pub names: Vec<SanName>,
    /// Its key as SubjectPublicKeyInfo in DER.
    pub tls_public_key: Vec<u8>,
    /// How long it should hold.
    pub ttl: Duration,
}

impl DatabaseServerDraft {
    /// Checks the draft and fixes everything that will stand in the certificate.
    ///
    /// # Errors
    /// [`Error::NoNames`], [`Error::TlsKey`], [`Error::Policy`].
    pub fn vet(self, policy: &IssuingPolicy) -> Result<Vetted> {
        let Self { cluster, server, names, tls_public_key, ttl } = self;
        let parts = VettedParts::new(policy, ttl)?;
        check_tls_key(&tls_public_key)?;
        let first = names.first().ok_or(Error::NoNames)?.to_string();
        let (common_name, key_use) = match server {
            // The names count, and they stand where every client looks.
            DatabaseServer::Plain => {
                (first.chars().take(MAX_COMMON_NAME).collect(), KeyUse::Server)
            }
            DatabaseServer::CockroachNode => ("node".to_owned(), KeyUse::Both),
        };
        let tls = VettedTls {
            spki: tls_public_key,
            common_name,
            spiffe: None,
            names,
            key_use,
            key_encipherment: true,
        };
        parts.vetted(AuthorityKind::Db, cluster, None, None, Some(tls))
    }
}

/// A client certificate for one account on databases that trust the
/// [`AuthorityKind::DbClient`].
///
/// It is good on all of them: the databases of a cluster are told apart by who may reach them, so
/// that it holds for minutes and is issued only after a decision over one of them.
#[derive(Clone, Debug)]
pub struct DatabaseClientDraft {
    /// The cluster whose authority signs it.
    pub cluster: ClusterName,
    /// The account: the common name, as it stands.
    pub account: Login,
    /// The key as SubjectPublicKeyInfo in DER.
    pub tls_public_key: Vec<u8>,
    /// How long it should hold.
    pub ttl: Duration,
}

impl DatabaseClientDraft {
    /// How long one holds unless something shortens it.
    pub const TTL: Duration = Duration::from_secs(10 * 60);

    /// Checks the draft and fixes everything that will stand in the certificate.
    ///
    /// # Errors
    /// [`Error::Account`] when the account is no common name, [`Error::TlsKey`],
    /// [`Error::Policy`].
    pub fn vet(self, policy: &IssuingPolicy) -> Result<Vetted> {
        let Self { cluster, account, tls_public_key, ttl } = self;
        let parts = VettedParts::new(policy, ttl)?;
        check_tls_key(&tls_public_key)?;
        check_account(account.as_str())?;
        let tls = VettedTls {
            spki: tls_public_key,
            common_name: account.as_str().to_owned(),
            spiffe: None,
            names: Vec::new(),
            key_use: KeyUse::Client,
            key_encipherment: true,
        };
        parts.vetted(AuthorityKind::DbClient, cluster, None, None, Some(tls))
    }
}

/// A database takes the common name for the account byte for byte.
fn check_account(account: &str) -> Result<()> {
    let wrong = |why| Err(Error::Account { account: shown(account), why });
    if account.is_empty() || account.chars().count() > MAX_COMMON_NAME {
        return wrong("it must have 1 to 64 characters");
    }
    if account.chars().any(char::is_control) {
        return wrong("it has a control character");
    }
    Ok(())
}
