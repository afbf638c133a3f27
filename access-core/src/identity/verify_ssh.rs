//! From an OpenSSH certificate to a verified identity (OpenSSH's PROTOCOL.certkeys).

use std::net::IpAddr;

use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use super::{AuthorityKind, Identity, Proof, SourcePin, TrustStore, VerifiedIdentity, VerifyError};
use crate::ids::Login;
use crate::time::{Timestamp, Validity};

/// The extension under which an SSH certificate carries its [`Identity`] document, as JSON text.
///
/// `sshd` ignores extensions that it does not know, so that the certificates work there too.
pub const SSH_IDENTITY_EXTENSION: &str = "identity@access";

/// Restricts where a certificate may be used from.
const SOURCE_ADDRESS: &str = "source-address";

impl TrustStore {
    /// The identity behind a user certificate that an SSH client presented to log in as `login`,
    /// in an authentication whose signature was verified: the authority's signature and trust,
    /// type, time, principals (there must be some, and the login among them), critical options
    /// (only `source-address` is known) and the document.
    ///
    /// `source` is where the client is; a certificate that is pinned to addresses is refused when
    /// it is not known.
    ///
    /// # Errors
    /// The [`VerifyError`] that says what is wrong, for the log.
    pub fn verify_ssh_user(
        &self,
        certificate: &Certificate,
        login: &Login,
        source: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<VerifiedIdentity, VerifyError> {
        let verified = self.verify_ssh_any_login(certificate, source, now)?;
        let principals = certificate.valid_principals();
        if !principals.iter().any(|principal| principal == login.as_str()) {
            return Err(VerifyError::Principal(login.as_str().to_owned()));
        }
        Ok(verified)
    }

    /// Like [`TrustStore::verify_ssh_user`], for a place where no account is opened: the jump
    /// host, which only leads on to where the login is checked.
    ///
    /// # Errors
    /// The [`VerifyError`] that says what is wrong, for the log.
    pub fn verify_ssh_any_login(
        &self,
        certificate: &Certificate,
        source: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<VerifiedIdentity, VerifyError> {
        if certificate.cert_type() != CertType::User {
            return Err(VerifyError::WrongType("a host certificate, used as a user's"));
        }
        if !self.trusts_ssh_key(AuthorityKind::User, certificate.signature_key()) {
            return Err(VerifyError::Untrusted);
        }
        certificate
            .verify_signature()
            .map_err(|_| VerifyError::Malformed("its signature is wrong".into()))?;
        let validity = Validity::between(
            ssh_time(certificate.valid_after()),
            ssh_time(certificate.valid_before()),
        )?;
        validity.check(now)?;
        if certificate.valid_principals().is_empty() {
            // An empty list means "everybody" in OpenSSH; here it means nobody.
            return Err(VerifyError::Principal(String::new()));
        }
        check_critical_options(certificate, source)?;
        let text = certificate
            .extensions()
            .get(SSH_IDENTITY_EXTENSION)
            .ok_or_else(|| VerifyError::Document("there is none".into()))?;
        let identity = Identity::decode(text.as_bytes())?;
        self.verified(identity, validity, Proof::Ssh, AuthorityKind::User)
    }
}

/// SSH writes "for ever" as the largest number.
fn ssh_time(secs: u64) -> Timestamp {
    Timestamp::from_secs(i64::try_from(secs).unwrap_or(i64::MAX))
}

pub(crate) fn check_critical_options(
    certificate: &Certificate,
    source: Option<IpAddr>,
) -> Result<(), VerifyError> {
    for (name, value) in certificate.critical_options().iter() {
        if name != SOURCE_ADDRESS {
            return Err(VerifyError::CriticalOption(name.chars().take(80).collect()));
        }
        let pin: SourcePin = value
            .parse()
            .map_err(|err| VerifyError::Malformed(format!("{SOURCE_ADDRESS}: {err}")))?;
        match source {
            Some(address) if pin.contains(address) => {}
            Some(address) => return Err(VerifyError::Source(address.to_string())),
            None => return Err(VerifyError::Source("an unknown address".into())),
        }
    }
    Ok(())
}
