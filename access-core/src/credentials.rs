//! What opens a target: short-lived credentials, made for one permit at a time (feature `tls`).
//!
//! The key of a certificate for a target is made where it is used and never leaves that process.
//! Whoever signs it decides again by itself, from the user's own certificate chain
//! ([`VerifiedIdentity::certificate_chain`](crate::VerifiedIdentity::certificate_chain)), so that
//! an enforcer that was taken over gets nothing that its users are not allowed anyway.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rustls::sign::CertifiedKey;

use crate::gate::Permit;
use crate::time::Timestamp;

/// A client certificate for a target, made for one account on it; it holds for minutes.
#[derive(Clone)]
pub struct TargetCertificate {
    /// The certificate, its chain, and the key that it is made out to.
    pub key: Arc<CertifiedKey>,
    /// When it ends. A connection that was opened before goes on.
    pub not_after: Timestamp,
}

impl fmt::Debug for TargetCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetCertificate")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Makes, or has made, the credentials that a target takes.
///
/// User, target and account are taken out of the permit; there is no parameter in which others
/// could be named. An implementation may keep what it made, and must hand it out only for a
/// permit to the same user, target and account.
#[async_trait]
pub trait TargetCredentials: Send + Sync + 'static {
    /// A client certificate for the account that the permit names, on the target that it names.
    ///
    /// # Errors
    /// [`CredentialsError`]; its text may be shown to the user, who was allowed to try.
    async fn client_certificate(
        &self,
        permit: &Permit,
    ) -> Result<TargetCertificate, CredentialsError>;

    /// A client certificate for the admin user of the database that the permit is for, so that it
    /// makes the account of the permit's session. It may hold for a little longer than the permit,
    /// so that what was made can be undone at its end. Without an implementation of its own there
    /// are none.
    ///
    /// # Errors
    /// As those of [`TargetCredentials::client_certificate`]; [`CredentialsError::NotForThis`] for
    /// a permit whose account is not made.
    async fn admin_certificate(
        &self,
        permit: &Permit,
    ) -> Result<TargetCertificate, CredentialsError> {
        let _ = permit;
        Err(CredentialsError::NotForThis("no certificates for admin users are made here"))
    }
}

/// Why there are no credentials. The text may be shown to the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Whoever makes them decided again, and said no.
    #[error("{0}")]
    Denied(String),
    /// They cannot be made at the moment.
    #[error("no credentials for the target can be had at the moment: {0}")]
    Unavailable(String),
    /// The permit names no account on a target that takes such credentials, or the identity
    /// behind it was not proven by a certificate chain that could be shown to somebody else.
    #[error("there are no such credentials for this: {0}")]
    NotForThis(&'static str),
}
