//! The TLS half: a self-signed root, and everything of it that each certificate repeats.

use std::sync::Arc;
use std::time::Duration;

use access_core::identity::AuthorityKind;
use access_core::{ClusterName, Timestamp, Validity};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::der::{Writer, oid, tag};
use crate::error::{Error, Result};
use crate::keys::{KeyAlgorithm, Signer, x509_signature};
use crate::random;

/// How far a root's validity starts before it is made, so that a machine whose clock is behind
/// takes it at once.
const ROOT_SKEW: Duration = Duration::from_secs(3600);

/// `2.5.4.5`, serialNumber: tells the roots of one authority apart while it rotates.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
/// `2.5.29.35`, the authority key identifier.
const AUTHORITY_KEY_IDENTIFIER: [u64; 4] = [2, 5, 29, 35];

/// Signs X.509 certificates; holds what does not change between them, encoded.
#[derive(Debug)]
pub(crate) struct TlsIssuer {
    signer: Arc<dyn Signer>,
    root: CertificateDer<'static>,
    /// The root's subject, byte for byte: the issuer of what it signs.
    name: Vec<u8>,
    /// The whole authority key identifier extension.
    key_identifier: Vec<u8>,
    validity: Validity,
}

impl TlsIssuer {
    pub(crate) fn new(signer: Arc<dyn Signer>, root: CertificateDer<'static>) -> Result<Self> {
        let wrong = |why: &str| Error::Stored(format!("its TLS root {why}"));
        if signer.public_key().algorithm() != KeyAlgorithm::EcdsaP256 {
            return Err(wrong("is not an ECDSA P-256 key"));
        }
        let (rest, parsed) =
            X509Certificate::from_der(&root).map_err(|_| wrong("is no certificate"))?;
        if !rest.is_empty() {
            return Err(wrong("has bytes after its end"));
        }
        if parsed.public_key().raw != signer.public_key().spki_der() {
            return Err(wrong("is of another key"));
        }
        if !parsed.is_ca() {
            return Err(wrong("is no authority's certificate"));
        }
        let seconds = Timestamp::from_secs;
        let validity = Validity::between(
            seconds(parsed.validity().not_before.timestamp()),
            seconds(parsed.validity().not_after.timestamp()),
        )
        .map_err(|_| wrong("is valid at no time"))?;
        let subject_key = parsed
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
                _ => None,
            })
            .ok_or_else(|| wrong("has no subject key identifier"))?;
        let name = parsed.subject().as_raw().to_vec();
        let key_identifier = key_identifier_extension(subject_key);
        Ok(Self { signer, name, key_identifier, validity, root })
    }

    pub(crate) fn signer(&self) -> &dyn Signer {
        self.signer.as_ref()
    }

    pub(crate) fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    pub(crate) fn key_identifier(&self) -> &[u8] {
        &self.key_identifier
    }

    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }
}

/// Makes the root of an authority (RFC 5280, section 4.2.1.9): it signs leaves and nothing else.
pub(super) fn self_signed(
    signer: &dyn Signer,
    cluster: &ClusterName,
    kind: AuthorityKind,
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateDer<'static>> {
    if lifetime < Duration::from_secs(3600) {
        return Err(Error::Policy("an authority must hold for at least an hour"));
    }
    let mut serial: [u8; 16] = random::bytes()?;
    crate::issue::make_positive(&mut serial);
    let mut params = CertificateParams::default();
    params.not_before = moment(now.minus(ROOT_SKEW))?;
    params.not_after = moment(now.plus(lifetime))?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, cluster.as_str());
    name.push(DnType::CommonName, format!("{cluster} {kind} authority"));
    name.push(
        DnType::CustomDnType(SERIAL_NUMBER.to_vec()),
        data_encoding::HEXLOWER.encode(&serial),
    );
    params.distinguished_name = name;
    let certificate =
        params.self_signed(&RcgenKey(signer)).map_err(|err| Error::Signing(err.to_string()))?;
    Ok(certificate.into())
}

fn moment(at: Timestamp) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at.as_secs())
        .map_err(|_| Error::Policy("the time is beyond the year 9999"))
}

fn key_identifier_extension(subject_key: &[u8]) -> Vec<u8> {
    let mut value = Writer::with_capacity(32);
    value.nested(tag::SEQUENCE, |w| w.value(tag::context(0), subject_key));
    let mut extension = Writer::with_capacity(48);
    extension.nested(tag::SEQUENCE, |w| {
        w.value(tag::OID, &oid(&AUTHORITY_KEY_IDENTIFIER));
        w.value(tag::OCTET_STRING, &value.into_bytes());
    });
    extension.into_bytes()
}

/// A [`Signer`] as rcgen wants it.
struct RcgenKey<'a>(&'a dyn Signer);

impl PublicKeyData for RcgenKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().raw()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for RcgenKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0
            .sign(message)
            .and_then(|raw| x509_signature(self.0.public_key().algorithm(), raw))
            .map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
