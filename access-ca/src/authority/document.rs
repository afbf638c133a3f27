//! The stored form of an authority.

use access_core::ClusterName;
use access_core::identity::{AuthorityKind, TrustedAuthority};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use ssh_key::public::KeyData;

use crate::keys::StoredKey;
use crate::{openssh_line, parse_openssh_line, pem};

/// An authority as it is stored: private keys sealed (or in a token), public halves in clear.
///
/// An unknown field is an error, because a program that does not understand all of an authority
/// must not sign with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityDocument {
    /// What it signs for.
    pub kind: AuthorityKind,
    /// Whose it is.
    pub cluster: ClusterName,
    /// Where its rotation stands.
    pub phase: RotationPhase,
    /// The keys that sign. They are trusted too.
    pub active: ActiveKeys,
    /// Keys that are trusted beside the active ones: of an authority that is about to sign, or
    /// that signed until lately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_trusted: Vec<TrustedKeys>,
}

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RotationPhase {
    /// There is none.
    Standby,
}

/// The keys that an authority signs with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveKeys {
    /// Signs SSH certificates. There is one exactly when the authority's kind
    /// [has an SSH half](AuthorityKind::has_ssh).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<StoredKey>,
    /// Signs X.509 certificates.
    pub tls: StoredKey,
    /// The self-signed certificate of `tls`, stored as PEM.
    #[serde(with = "pem_text")]
    pub tls_root: CertificateDer<'static>,
}

/// Public keys of one generation of an authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKeys {
    /// The key of its SSH certificates, stored as an OpenSSH line; none where the authority has
    /// no SSH half.
    #[serde(default, with = "ssh_text", skip_serializing_if = "Option::is_none")]
    pub ssh: Option<KeyData>,
    /// The root of its X.509 certificates, stored as PEM.
    #[serde(with = "pem_text")]
    pub tls_root: CertificateDer<'static>,
}

impl AuthorityDocument {
    /// The public form: every key that is trusted at the moment, the active ones first. Needs no
    /// key store.
    pub fn trusted(&self) -> TrustedAuthority {
        let Self { kind, cluster, phase: _, active, additional_trusted } = self;
        let mut trusted = TrustedAuthority {
            kind: *kind,
            cluster: cluster.clone(),
            ssh: active.ssh.iter().map(|key| key.public_key.ssh().clone()).collect(),
            tls: vec![active.tls_root.clone()],
        };
        for keys in additional_trusted {
            if let Some(key) = &keys.ssh
                && !trusted.ssh.contains(key)
            {
                trusted.ssh.push(key.clone());
            }
            if !trusted.tls.contains(&keys.tls_root) {
                trusted.tls.push(keys.tls_root.clone());
            }
        }
        trusted
    }
}

mod pem_text {
    use super::{CertificateDer, pem};
    use rustls_pki_types::pem::PemObject;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        certificate: &CertificateDer<'static>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&pem(certificate))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<CertificateDer<'static>, D::Error> {
        let text = String::deserialize(deserializer)?;
        CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|err| de::Error::custom(format!("no certificate in PEM: {err}")))
    }
}

mod ssh_text {
    use super::{KeyData, openssh_line, parse_openssh_line};
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub(super) fn serialize<S: Serializer>(
        key: &Option<KeyData>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => serializer.serialize_str(&openssh_line(key).map_err(ser::Error::custom)?),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<KeyData>, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_openssh_line(&text).map(Some).map_err(de::Error::custom)
    }
}
