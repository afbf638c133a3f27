//! Certificates that peers present.

use rustls_pki_types::CertificateDer;
use ssh_key::{Certificate, PublicKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::identity::{
    AuthorityKind, SpkiPin, TrustStore, TrustedAuthority, VerifiedIdentity, check_critical_options,
    cluster_of_root, document,
};
use crate::ids::{ClusterName, Login};
use crate::time::Timestamp;

/// The root and the SSH key of a user authority whose private keys were thrown away after they had
/// signed one certificate each, for [`ONLY`]: the seeds of the fuzz target.
const ROOT: &[u8] = include_bytes!("authority.der");
const SSH_KEY: &str = include_str!("authority.pub");
/// The one whom the authority ever vouched for.
const ONLY: &str = "alice";
/// A time at which these certificates hold: 2026-01-01.
const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);

/// The first byte says what follows: 0 an X.509 certificate, 1 a chain of them, each after its
/// length in two bytes, 2 an SSH certificate, 3 the same as OpenSSH writes it in a file. Nothing
/// is verified but what the authority signed, and what comes after the signature in verification
/// bears anything too.
///
/// # Panics
/// When that does not hold.
pub fn certificate(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let Some(trust) = trust() else { return };
    match kind & 3 {
        0 => tls(&trust, &[bytes]),
        1 => tls(&trust, &pieces(bytes)),
        2 => ssh(&trust, Certificate::from_bytes(bytes).ok()),
        _ => {
            let text = std::str::from_utf8(bytes).unwrap_or_default();
            ssh(&trust, Certificate::from_openssh(text).ok());
        }
    }
}

fn trust() -> Option<TrustStore> {
    let cluster = ClusterName::new("example.com").ok();
    let key = PublicKey::from_openssh(SSH_KEY).ok();
    let made = cluster.zip(key).and_then(|(cluster, key)| {
        let authority = TrustedAuthority {
            kind: AuthorityKind::User,
            cluster: cluster.clone(),
            ssh: vec![key.key_data().clone()],
            tls: vec![CertificateDer::from(ROOT)],
        };
        TrustStore::new(cluster, [authority]).ok()
    });
    assert!(made.is_some(), "the authority of the seeds cannot be read");
    made
}

fn pieces(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn tls(trust: &TrustStore, chain: &[&[u8]]) {
    let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(*der)).collect();
    only_one(trust.verify_tls(&chain, NOW).ok());
    for certificate in &chain {
        if let Ok((_, parsed)) = X509Certificate::from_der(certificate) {
            let _ = document(&parsed);
        }
        let _ = (SpkiPin::of_certificate(certificate), cluster_of_root(certificate));
    }
    if let Some(root) = chain.first() {
        let authority = TrustedAuthority {
            kind: AuthorityKind::Host,
            cluster: trust.cluster().clone(),
            ssh: Vec::new(),
            tls: vec![root.clone().into_owned()],
        };
        let _ = TrustStore::new(trust.cluster().clone(), [authority]);
    }
}

fn ssh(trust: &TrustStore, certificate: Option<Certificate>) {
    let Some(certificate) = certificate else { return };
    let source = Some([127, 0, 0, 1].into());
    only_one(trust.verify_ssh_any_login(&certificate, source, NOW).ok());
    if let Ok(root) = Login::new("root") {
        let verified = trust.verify_ssh_user(&certificate, &root, source, NOW);
        assert!(verified.is_err(), "the authority never allowed root");
    }
    let _ = check_critical_options(&certificate, source);
    let _ = certificate.verify_signature();
}

fn only_one(verified: Option<VerifiedIdentity>) {
    if let Some(verified) = verified {
        assert_eq!(verified.name(), ONLY, "nobody signed that");
        assert!(verified.validity().check(NOW).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the target would never come past the signature, whatever the seeds.
    #[test]
    fn the_seeds_are_verified() {
        let leaf = include_bytes!("../../../fuzz/seeds/certificate/leaf");
        let leaf = CertificateDer::from(&leaf[1..]);
        assert_eq!(trust().unwrap().verify_tls(&[leaf], NOW).unwrap().name(), ONLY);
        let text = include_str!("../../../fuzz/seeds/certificate/ssh_text");
        let ssh = Certificate::from_openssh(&text[1..]).unwrap();
        assert_eq!(trust().unwrap().verify_ssh_any_login(&ssh, None, NOW).unwrap().name(), ONLY);
    }
}
