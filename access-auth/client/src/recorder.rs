//! Whose signature closes a recording.

use access_core::identity::TrustStore;
use access_core::recording::{RecorderKey, RecorderTrust};
use access_core::time::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::FromDer;

/// Trusts recordings that a host of the cluster signed: the key is that of the first certificate,
/// and the chain was good when that certificate was issued. Recordings outlive certificates, so
/// the present time does not count.
pub fn recorder_trust(trust: TrustStore) -> impl RecorderTrust + 'static {
    move |key: &RecorderKey, certificates: &[CertificateDer<'_>]| {
        let Some(leaf) = certificates.first() else { return false };
        let Ok((_, parsed)) = x509_parser::certificate::X509Certificate::from_der(leaf) else {
            return false;
        };
        let issued = Timestamp::from_secs(parsed.validity().not_before.timestamp());
        let of_leaf = &parsed.tbs_certificate.subject_pki.subject_public_key.data;
        let is_host = trust.verify_tls(certificates, issued).is_ok_and(|id| id.host().is_some());
        is_host && key.as_bytes() == of_leaf.as_ref()
    }
}
