//! Public keys that others ask to have certified: which ones are, and which are not.
//!
//! The bytes of a TLS key go into the certificate as they came, so that only their one canonical
//! encoding is taken. Points are not checked to lie on their curve: that takes as long as signing,
//! and whoever asks for a certificate over a key that is none cannot use it.

use ssh_key::public::KeyData;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::der::{Writer, oid, tag};
use crate::error::{Error, Result};
use crate::keys::{SPKI_ED25519, SPKI_P256};

/// Sizes of RSA keys that are certified, in bits: shorter ones are weak, longer ones make every
/// peer that verifies them work for an attacker.
pub const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

/// The longest public key in text or DER that is looked at, in bytes.
pub const MAX_KEY: usize = 4096;

const SPKI_P384: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
const RSA_ENCRYPTION: [u64; 7] = [1, 2, 840, 113_549, 1, 1, 1];

/// Reads an SSH public key from its line: `ssh-ed25519 AAAA… comment`.
///
/// # Errors
/// [`Error::SshKey`] when it is none, or one that [`check_ssh_key`] refuses.
pub fn parse_ssh_key(line: &str) -> Result<KeyData> {
    if line.len() > MAX_KEY {
        return Err(Error::SshKey("it is too long".into()));
    }
    let key = ssh_key::PublicKey::from_openssh(line.trim())
        .map_err(|err| Error::SshKey(err.to_string()))?;
    check_ssh_key(key.key_data())?;
    Ok(key.key_data().clone())
}

/// Whether an SSH key is certified: Ed25519, ECDSA on the NIST curves, both of these in security
/// keys, and RSA within [`RSA_BITS`].
///
/// # Errors
/// [`Error::SshKey`] says why it is not.
pub fn check_ssh_key(key: &KeyData) -> Result<()> {
    match key {
        KeyData::Ed25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        KeyData::Rsa(key) => {
            let number = |n: &ssh_key::Mpint| n.as_positive_bytes().map(<[u8]>::to_vec);
            match (number(key.n()), number(key.e())) {
                (Some(n), Some(e)) => check_rsa(&n, &e).map_err(Error::SshKey),
                _ => Err(Error::SshKey("its numbers are negative".into())),
            }
        }
        KeyData::Certificate(_) => {
            Err(Error::SshKey("it is a certificate itself: give the key alone".into()))
        }
        other => Err(Error::SshKey(format!(
            "{} is not supported: use ed25519, ecdsa or rsa",
            other.algorithm()
        ))),
    }
}

/// Whether a TLS key, a SubjectPublicKeyInfo in DER, is certified: P-256, P-384, Ed25519, and RSA
/// within [`RSA_BITS`].
///
/// # Errors
/// [`Error::TlsKey`] says why it is not.
pub fn check_tls_key(spki: &[u8]) -> Result<()> {
    if spki.len() > MAX_KEY {
        return Err(Error::TlsKey("it is too long".into()));
    }
    let point = |bytes: &[u8], length: usize| {
        if bytes.len() == length && bytes.first() == Some(&4) {
            Ok(())
        } else {
            Err(Error::TlsKey("its point is not an uncompressed one of its curve".into()))
        }
    };
    if let Some(raw) = spki.strip_prefix(&SPKI_P256) {
        point(raw, 65)
    } else if let Some(raw) = spki.strip_prefix(&SPKI_P384) {
        point(raw, 97)
    } else if let Some(raw) = spki.strip_prefix(&SPKI_ED25519) {
        if raw.len() == 32 { Ok(()) } else { Err(Error::TlsKey("malformed Ed25519 key".into())) }
    } else {
        check_tls_rsa(spki)
    }
}

fn check_tls_rsa(spki: &[u8]) -> Result<()> {
    let malformed =
        || Error::TlsKey("it is no SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7)".into());
    let (rest, parsed) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| malformed())?;
    if !rest.is_empty() {
        return Err(malformed());
    }
    let key = match parsed.parsed() {
        Ok(ParsedKey::RSA(key)) => key,
        Ok(_) => {
            return Err(Error::TlsKey(
                "its algorithm is not supported: use P-256, P-384, Ed25519 or RSA".into(),
            ));
        }
        Err(_) => return Err(malformed()),
    };
    check_rsa(key.modulus, key.exponent).map_err(Error::TlsKey)?;
    if rsa_spki(key.modulus, key.exponent) == spki { Ok(()) } else { Err(malformed()) }
}

/// The one DER encoding of an RSA key (RFC 3279, section 2.3.1).
fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let mut key = Writer::with_capacity(MAX_KEY);
    key.nested(tag::SEQUENCE, |w| {
        w.positive_integer(modulus);
        w.positive_integer(exponent);
    });
    let mut spki = Writer::with_capacity(MAX_KEY);
    spki.nested(tag::SEQUENCE, |w| {
        w.nested(tag::SEQUENCE, |w| {
            w.value(tag::OID, &oid(&RSA_ENCRYPTION));
            w.value(tag::NULL, &[]);
        });
        w.bit_string(&key.into_bytes());
    });
    spki.into_bytes()
}

/// Big-endian numbers, leading zeros allowed.
fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), String> {
    let bits = bit_length(modulus);
    if !RSA_BITS.contains(&bits) {
        return Err(format!(
            "RSA keys must have {} to {} bits, not {bits}",
            RSA_BITS.start(),
            RSA_BITS.end()
        ));
    }
    let odd = |n: &[u8]| n.last().is_some_and(|last| last & 1 == 1);
    // 1 makes every message its own signature; past 32 bits verifying becomes slow.
    if !odd(modulus) || !odd(exponent) || !(2..=32).contains(&bit_length(exponent)) {
        return Err("its RSA numbers are none that a key has".into());
    }
    Ok(())
}

fn bit_length(mut number: &[u8]) -> u32 {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    match number.first() {
        Some(first) => {
            let bytes = u32::try_from(number.len()).unwrap_or(u32::MAX / 8);
            bytes * 8 - first.leading_zeros()
        }
        None => 0,
    }
}
