//! Certificates with their keys and what their holder trusts: what a login or a join leaves.

use std::sync::Arc;

use access_core::identity::{
    AuthorityKind, Identity, SSH_IDENTITY_EXTENSION, SharedTrust, TrustStore, TrustedAuthority,
};
use access_core::ids::{ClusterName, HostId};
use access_core::time::{Timestamp, Validity};
use access_core::tls::SharedKey;
use rustls_pki_types::CertificateDer;
use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use crate::error::ClientError;
use crate::keys::KeySet;
use crate::proto;

/// The most that the clocks of two machines may differ before certificates stop working.
pub const MAX_CLOCK_SKEW: std::time::Duration = std::time::Duration::from_secs(60);

/// A holder's keys, the certificates for them, and the authorities of the cluster.
#[derive(Debug)]
pub struct Credentials {
    /// The private keys.
    pub keys: KeySet,
    /// The certificate for the SSH key.
    pub ssh_certificate: Certificate,
    /// The chain for the TLS key, leaf first, root last.
    pub tls_chain: Vec<CertificateDer<'static>>,
    /// What the holder trusts.
    pub authorities: Vec<TrustedAuthority>,
    /// The cluster.
    pub cluster: ClusterName,
    /// When the certificates hold.
    pub validity: Validity,
    /// The host's id, when they are a host's.
    pub host_id: Option<HostId>,
}

impl Credentials {
    /// Puts together what the service answered and the keys that it was asked for.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when the answer is incomplete, or certifies another key than
    /// the one that was sent: then somebody in between has swapped it.
    pub fn from_answer(keys: KeySet, answer: proto::Credentials) -> Result<Self, ClientError> {
        let malformed = |what: &str| ClientError::Malformed(format!("the answer's {what}"));
        let ssh_certificate = Certificate::from_openssh(&answer.ssh_certificate)
            .map_err(|err| malformed(&format!("SSH certificate cannot be read: {err}")))?;
        if ssh_certificate.public_key() != keys.ssh.public_key().key_data() {
            return Err(malformed("SSH certificate is for another key than the one sent"));
        }
        let tls_chain: Vec<_> = answer.tls_chain.into_iter().map(CertificateDer::from).collect();
        let leaf = tls_chain.first().ok_or_else(|| malformed("TLS certificate is missing"))?;
        if spki_of(leaf)? != keys.tls.spki() {
            return Err(malformed("TLS certificate is for another key than the one sent"));
        }
        let cluster = ClusterName::new(&answer.cluster_name)
            .map_err(|err| malformed(&format!("cluster name is none: {err}")))?;
        let validity = Validity::between(
            Timestamp::from_millis(answer.not_before),
            Timestamp::from_millis(answer.not_after),
        )
        .map_err(|err| malformed(&err.to_string()))?;
        let host_id = match answer.host_id.as_str() {
            "" => None,
            id => Some(HostId::new(id).map_err(|err| malformed(&err.to_string()))?),
        };
        let authorities = answer
            .authorities
            .into_iter()
            .map(TrustedAuthority::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Self { keys, ssh_certificate, tls_chain, authorities, cluster, validity, host_id })
    }

    /// Makes sure that both certificates are a user's and nobody else's: the user authority that
    /// came with them has signed both, both carry the same identity, and the SSH certificate is
    /// good for the logins in it. Times are for [`Credentials::check`].
    ///
    /// # Errors
    /// [`ClientError::Malformed`] says what does not fit.
    pub fn check_user(&self, name: &str) -> Result<(), ClientError> {
        let malformed = |what: String| ClientError::Malformed(format!("the answer's {what}"));
        let trust = self.trust_store()?;
        let tls = trust
            .verify_tls(&self.tls_chain, self.validity.not_before())
            .map_err(|err| malformed(format!("TLS certificate does not hold: {err}")))?;
        let tls = tls.identity();
        let ssh = &self.ssh_certificate;
        let signed = trust
            .of_kind(AuthorityKind::User)
            .any(|authority| authority.ssh.contains(ssh.signature_key()));
        if ssh.cert_type() != CertType::User || !signed || ssh.verify_signature().is_err() {
            return Err(malformed("SSH certificate is none of a user of this cluster".into()));
        }
        let document = ssh.extensions().get(SSH_IDENTITY_EXTENSION).map_or("", String::as_str);
        let identity = Identity::decode(document.as_bytes())
            .map_err(|err| malformed(format!("SSH certificate has no identity: {err}")))?;
        for subject in [&identity.subject, &tls.subject] {
            if subject.user().is_none_or(|user| user.as_str() != name) {
                let other = subject.name();
                return Err(malformed(format!("certificates are made out to {other}, not {name}")));
            }
        }
        let logins = identity.logins.iter().map(|login| login.as_str());
        if identity != *tls || !logins.eq(ssh.valid_principals().iter().map(String::as_str)) {
            return Err(malformed("certificates contradict each other".into()));
        }
        Ok(())
    }

    /// What the holder trusts, for servers and clients.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when an authority cannot be used.
    pub fn trust(&self) -> Result<Arc<SharedTrust>, ClientError> {
        Ok(Arc::new(SharedTrust::new(self.trust_store()?)))
    }

    /// What the holder trusts.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when an authority cannot be used.
    pub fn trust_store(&self) -> Result<TrustStore, ClientError> {
        TrustStore::new(self.cluster.clone(), self.authorities.iter().cloned())
            .map_err(|err| ClientError::Malformed(err.to_string()))
    }

    /// What the holder shows in TLS.
    ///
    /// # Errors
    /// [`ClientError::Tls`] when key and certificate do not fit.
    pub fn shared_key(&self) -> Result<Arc<SharedKey>, ClientError> {
        Ok(Arc::new(SharedKey::new(self.tls_chain.clone(), self.keys.tls.to_rustls())?))
    }

    /// Fails when the certificates do not hold at a moment.
    ///
    /// # Errors
    /// [`ClientError::Unauthenticated`] when they have expired, [`ClientError::Clock`] when they
    /// lie in the future.
    pub fn check(&self, now: Timestamp) -> Result<(), ClientError> {
        if now >= self.validity.not_after() {
            return Err(ClientError::Unauthenticated(format!(
                "the certificate has expired at {}, log in again",
                self.validity.not_after()
            )));
        }
        if now < self.validity.not_before() {
            let ahead = self.validity.not_before().since(now).as_secs();
            return Err(ClientError::Clock(-i64::try_from(ahead).unwrap_or(i64::MAX)));
        }
        Ok(())
    }

    /// The chain for the TLS key in PEM, leaf first.
    pub fn tls_chain_pem(&self) -> String {
        let pem = self.tls_chain.iter().map(|cert| crate::pem::encode("CERTIFICATE", cert));
        pem.map(|pem| pem.to_string()).collect()
    }

    /// The roots of the host authority in PEM: what the cluster's servers are believed by.
    pub fn host_roots_pem(&self) -> String {
        let roots = self.host_authority().flat_map(|authority| &authority.tls);
        roots.map(|root| crate::pem::encode("CERTIFICATE", root).to_string()).collect()
    }

    /// The public halves of the host authority.
    pub fn host_authority(&self) -> impl Iterator<Item = &TrustedAuthority> {
        self.authorities.iter().filter(|authority| authority.kind == AuthorityKind::Host)
    }
}

/// A certificate's SubjectPublicKeyInfo in DER.
fn spki_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, ClientError> {
    use x509_parser::prelude::FromDer;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|err| ClientError::Malformed(format!("malformed certificate: {err}")))?;
    Ok(parsed.tbs_certificate.subject_pki.raw.to_vec())
}
