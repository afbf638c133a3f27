//! X.509 certificates (RFC 5280).

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use access_core::identity::X509_IDENTITY_OID;

use rustls_pki_types::CertificateDer;

use super::names::{Name, SanName};
use super::vetted::VettedParts;
use crate::authority::TlsIssuer;
use crate::der::{Writer, oid, tag};
use crate::error::Result;
use crate::keys::x509_signature;

/// What is particular to an X.509 certificate.
#[derive(Clone, Debug)]
pub(super) struct VettedTls {
    /// Canonical DER.
    pub(super) spki: Vec<u8>,
    pub(super) common_name: String,
    pub(super) spiffe: Option<String>,
    pub(super) names: Vec<SanName>,
    pub(super) key_use: KeyUse,
    /// Whether the key usage says `keyEncipherment` too, which some servers ask for whatever the
    /// key's algorithm is.
    pub(super) key_encipherment: bool,
}

/// What the key is used for in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyUse {
    Client,
    Server,
    Both,
}

/// `ecdsa-with-SHA256`, whole (RFC 5758, section 3.2).
const ECDSA_WITH_SHA256: [u8; 12] =
    [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x25];
const SERVER_AUTH: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// The BIT STRING `digitalSignature` alone: seven unused bits.
const DIGITAL_SIGNATURE: [u8; 2] = [0x07, 0x80];
/// The BIT STRING `digitalSignature`, `keyEncipherment`: five unused bits.
const SIGNATURE_AND_ENCIPHERMENT: [u8; 2] = [0x05, 0xa0];
static IDENTITY: LazyLock<Vec<u8>> = LazyLock::new(|| oid(&X509_IDENTITY_OID));

pub(super) fn sign(
    vetted: VettedTls,
    document: &str,
    parts: &VettedParts,
    issuer: &TlsIssuer,
) -> Result<CertificateDer<'static>> {
    let to_be_signed = to_be_signed(&vetted, document, parts, issuer);
    let raw = issuer.signer().sign(&to_be_signed)?;
    let signature = x509_signature(issuer.signer().public_key().algorithm(), raw)?;
    let mut certificate = Writer::with_capacity(to_be_signed.len() + 128);
    certificate.nested(tag::SEQUENCE, |w| {
        w.raw(&to_be_signed);
        w.raw(&ECDSA_WITH_SHA256);
        w.bit_string(&signature);
    });
    Ok(CertificateDer::from(certificate.into_bytes()))
}

fn to_be_signed(
    vetted: &VettedTls,
    document: &str,
    parts: &VettedParts,
    issuer: &TlsIssuer,
) -> Vec<u8> {
    let VettedTls { spki, common_name, spiffe, names, key_use, key_encipherment } = vetted;
    let key_usage =
        if *key_encipherment { &SIGNATURE_AND_ENCIPHERMENT } else { &DIGITAL_SIGNATURE };
    let mut writer = Writer::with_capacity(768 + document.len() + spki.len() + 64 * names.len());
    writer.nested(tag::SEQUENCE, |w| {
        w.nested(tag::context_constructed(0), |w| w.value(tag::INTEGER, &[2]));
        w.positive_integer(&parts.tls_serial);
        w.raw(&ECDSA_WITH_SHA256);
        w.raw(issuer.name());
        w.nested(tag::SEQUENCE, |w| {
            w.time(parts.validity.not_before());
            // The last second itself still counts (RFC 5280, section 4.1.2.5).
            w.time(parts.validity.not_after().minus(Duration::from_secs(1)));
        });
        w.nested(tag::SEQUENCE, |w| {
            w.nested(tag::SET, |w| {
                w.nested(tag::SEQUENCE, |w| {
                    w.value(tag::OID, &COMMON_NAME);
                    w.value(tag::UTF8_STRING, common_name.as_bytes());
                });
            });
        });
        w.raw(spki);
        w.nested(tag::context_constructed(3), |w| {
            w.nested(tag::SEQUENCE, |w| {
                w.raw(issuer.key_identifier());
                extension(w, &BASIC_CONSTRAINTS, true, |w| w.value(tag::SEQUENCE, &[]));
                extension(w, &KEY_USAGE, true, |w| w.value(tag::BIT_STRING, key_usage));
                extended_key_usage(w, *key_use);
                subject_alt_names(w, spiffe.as_deref(), names);
                if !document.is_empty() {
                    // Not critical: other programs verify the chain and need not know it.
                    extension(w, &IDENTITY, false, |w| w.raw(document.as_bytes()));
                }
            });
        });
    });
    writer.into_bytes()
}

fn extension(w: &mut Writer, id: &[u8], critical: bool, value: impl FnOnce(&mut Writer)) {
    w.nested(tag::SEQUENCE, |w| {
        w.value(tag::OID, id);
        if critical {
            w.value(tag::BOOLEAN, &[0xff]);
        }
        w.nested(tag::OCTET_STRING, value);
    });
}

fn extended_key_usage(w: &mut Writer, key_use: KeyUse) {
    extension(w, &EXTENDED_KEY_USAGE, false, |w| {
        w.nested(tag::SEQUENCE, |w| {
            if key_use != KeyUse::Server {
                w.value(tag::OID, &CLIENT_AUTH);
            }
            if key_use != KeyUse::Client {
                w.value(tag::OID, &SERVER_AUTH);
            }
        });
    });
}

fn subject_alt_names(w: &mut Writer, spiffe: Option<&str>, names: &[SanName]) {
    if spiffe.is_none() && names.is_empty() {
        // An empty list of names is malformed (RFC 5280, section 4.2.1.6).
        return;
    }
    extension(w, &SUBJECT_ALT_NAME, false, |w| {
        w.nested(tag::SEQUENCE, |w| {
            for name in names {
                match name.name() {
                    Name::Dns(name) => w.value(tag::context(2), name.as_bytes()),
                    Name::Ip(IpAddr::V4(address)) => w.value(tag::context(7), &address.octets()),
                    Name::Ip(IpAddr::V6(address)) => w.value(tag::context(7), &address.octets()),
                }
            }
            if let Some(uri) = spiffe {
                w.value(tag::context(6), uri.as_bytes());
            }
        });
    });
}
