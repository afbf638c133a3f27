//! Authorities made on the spot.

use std::sync::Arc;

use access_core::identity::{Subject, X509_IDENTITY_OID};
use access_core::{ClusterName, Identity, Timestamp, UserName};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// An authority.
#[derive(Clone)]
pub struct Ca(Arc<Inner>);

struct Inner {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

/// A certificate and its key.
pub struct Pair {
    pub cert: CertificateDer<'static>,
    key: KeyPair,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap().der().clone();
        Self(Arc::new(Inner { issuer: Issuer::new(params, key), root }))
    }

    pub fn root(&self) -> CertificateDer<'static> {
        self.0.root.clone()
    }

    pub fn root_pem(&self) -> String {
        pem("CERTIFICATE", &self.0.root)
    }

    fn sign(&self, mut params: CertificateParams, purpose: ExtendedKeyUsagePurpose) -> Pair {
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0.issuer).unwrap().der().clone();
        Pair { cert, key }
    }

    pub fn server(&self, names: &[&str]) -> Pair {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let params = CertificateParams::new(names).unwrap();
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a database account.
    pub fn client(&self, name: &str) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// For a user of the cluster.
    pub fn user(&self, name: &str) -> Pair {
        let cluster = ClusterName::new(super::CLUSTER).unwrap();
        let subject = Subject::User { name: UserName::new(name).unwrap() };
        let identity = Identity::new(cluster, subject, Timestamp::from_secs(1));
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        let document = identity.encode().unwrap();
        let extension = CustomExtension::from_oid_content(&X509_IDENTITY_OID, document);
        params.custom_extensions = vec![extension];
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

impl Pair {
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub fn cert_pem(&self) -> String {
        pem("CERTIFICATE", &self.cert)
    }

    pub fn certified(&self) -> Arc<CertifiedKey> {
        let chain = vec![self.cert.clone()];
        Arc::new(CertifiedKey::from_der(chain, self.key_der(), &provider()).unwrap())
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

fn pem(label: &str, der: &[u8]) -> String {
    use std::fmt::Write;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = String::new();
    for chunk in der.chunks(3) {
        let word = u32::from_be_bytes([
            0,
            chunk[0],
            *chunk.get(1).unwrap_or(&0),
            *chunk.get(2).unwrap_or(&0),
        ]);
        for at in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * at)) as usize & 63] as char;
            base64.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(64) {
        writeln!(out, "{}", std::str::from_utf8(line).unwrap()).unwrap();
    }
    writeln!(out, "-----END {label}-----").unwrap();
    out
}
