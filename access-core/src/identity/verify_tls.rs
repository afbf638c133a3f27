//! From an X.509 chain to a verified identity (RFC 5280, section 6).

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::seen::ChainId;
use super::{AuthorityKind, Identity, Proof, Subject, TrustStore, VerifiedIdentity, VerifyError};
use crate::time::{Timestamp, Validity, ValidityError};

/// Where an X.509 certificate carries its [`Identity`] document, as the bytes of the extension.
///
/// The arc is `2.25` (ITU-T X.667), which needs no registration.
pub const X509_IDENTITY_OID: [u64; 3] = [2, 25, 6_203_411_873_590_114_347];

/// The longest chain that is looked at.
const MAX_CHAIN: usize = 5;

/// Signatures that authorities of the cluster may use.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
    webpki::ring::ED25519,
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::RSA_PKCS1_2048_8192_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA512,
];

impl TrustStore {
    /// The identity behind the certificates that a TLS peer presented, leaf first, in a handshake
    /// that it completed as a client: chain, trust, extended key usage, type and time.
    ///
    /// # Errors
    /// The [`VerifyError`] that says what is wrong, for the log.
    pub fn verify_tls(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<VerifiedIdentity, VerifyError> {
        let id = ChainId::of(chain);
        if let Some(seen) = id.and_then(|id| self.seen.find(id, now)) {
            return Ok(seen);
        }
        let verified = self.verify_chain(chain, now)?;
        if let Some(id) = id {
            self.seen.add(id, &verified);
        }
        Ok(verified)
    }

    fn verify_chain(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<VerifiedIdentity, VerifyError> {
        let (leaf, rest) = chain.split_first().ok_or(VerifyError::Missing)?;
        if chain.len() > MAX_CHAIN {
            return Err(VerifyError::Malformed("chain too long".into()));
        }
        let cert =
            EndEntityCert::try_from(leaf).map_err(|err| VerifyError::Malformed(err.to_string()))?;
        let authority = self.tls_issuer(&cert, rest, now)?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|err| VerifyError::Malformed(err.to_string()))?;
        let identity = document(&parsed)?;
        let validity = Validity::between(
            Timestamp::from_secs(parsed.validity().not_before.timestamp()),
            Timestamp::from_secs(parsed.validity().not_after.timestamp().saturating_add(1)),
        )?;
        // The path building checked this too; here it is in the type that is handed on.
        validity.check(now)?;
        let mut verified = self.verified(identity, validity, Proof::Tls, authority)?;
        verified.chain = chain.iter().map(|cert| cert.clone().into_owned()).collect();
        Ok(verified)
    }

    /// The kind of authority that signed a leaf. A certificate is looked for under each kind
    /// apart, so that a host's is never taken for a user's.
    fn tls_issuer(
        &self,
        cert: &EndEntityCert<'_>,
        rest: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<AuthorityKind, VerifyError> {
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            u64::try_from(now.as_secs()).unwrap_or(0),
        ));
        let mut refusal = VerifyError::Untrusted;
        let vouching = self.authorities.iter().filter(|a| a.public.kind.proves_identities());
        for authority in vouching {
            let verdict = cert.verify_for_usage(
                ALGORITHMS,
                &authority.anchors,
                rest,
                at,
                KeyUsage::client_auth(),
                None,
                None,
            );
            match verdict {
                Ok(_) => return Ok(authority.public.kind),
                Err(err) => {
                    if let Some(reason) = telling(&err) {
                        refusal = reason;
                    }
                }
            }
        }
        Err(refusal)
    }

    /// The last step of every proof: document, cluster, and that the subject is of the sort that
    /// the authority vouches for.
    pub(super) fn verified(
        &self,
        identity: Identity,
        validity: Validity,
        proof: Proof,
        authority: AuthorityKind,
    ) -> Result<VerifiedIdentity, VerifyError> {
        if identity.cluster != self.cluster {
            return Err(VerifyError::OtherCluster(identity.cluster));
        }
        match (authority, &identity.subject) {
            (AuthorityKind::User, Subject::User { .. } | Subject::Bot { .. })
            | (AuthorityKind::Host, Subject::Host { .. }) => {}
            (AuthorityKind::User, Subject::Host { .. }) => {
                return Err(VerifyError::WrongType("a host, signed by the user authority"));
            }
            (AuthorityKind::Host, Subject::User { .. } | Subject::Bot { .. }) => {
                return Err(VerifyError::WrongType("a user, signed by the host authority"));
            }
            (AuthorityKind::Db | AuthorityKind::DbClient, _) => return Err(VerifyError::Untrusted),
        }
        Ok(VerifiedIdentity { identity, validity, proof, authority, chain: Arc::default() })
    }
}

/// An error that says more than that a signature did not fit, if it does.
fn telling(err: &webpki::Error) -> Option<VerifyError> {
    match err {
        webpki::Error::CertExpired { not_after, .. } => {
            Some(VerifyError::Time(ValidityError::Expired(from_unix(*not_after))))
        }
        webpki::Error::CertNotValidYet { not_before, .. } => {
            Some(VerifyError::Time(ValidityError::NotYet(from_unix(*not_before))))
        }
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => None,
        other => Some(VerifyError::Malformed(other.to_string())),
    }
}

fn from_unix(at: UnixTime) -> Timestamp {
    Timestamp::from_secs(i64::try_from(at.as_secs()).unwrap_or(i64::MAX))
}

/// Whom a certificate is made out to, by its identity document or else by its common name: for
/// logs and events alone, since nobody has verified anything of it.
pub fn claimed_name(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    if let Ok(identity) = document(&parsed) {
        return Some(identity.subject.name().to_owned());
    }
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}

pub(crate) fn document(cert: &X509Certificate<'_>) -> Result<Identity, VerifyError> {
    let oid = x509_parser::der_parser::oid::Oid::from(&X509_IDENTITY_OID)
        .map_err(|_| VerifyError::Document("no object identifier".into()))?;
    match cert.get_extension_unique(&oid) {
        Ok(Some(extension)) => Identity::decode(extension.value),
        Ok(None) => Err(VerifyError::Document("there is none".into())),
        Err(_) => Err(VerifyError::Document("there is more than one".into())),
    }
}
