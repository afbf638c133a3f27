//! How an agent reaches a database that an administrator registered.

use access_core::document::DocumentError;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::is_default;

/// How a database proves itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DbTls {
    /// What its certificate is held against.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: TlsMode,
    /// The authorities of its certificate, in PEM; the cluster's own `db` authority when empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ca_cert: String,
    /// The name that its certificate must have; the host that is dialled by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// How TLS begins.
    #[serde(default, skip_serializing_if = "is_default")]
    pub negotiation: TlsNegotiation,
    /// Nothing: files are agents' own.
    #[doc(hidden)]
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "no_file")]
    pub ca_cert_file: (),
}

/// What a database's certificate is held against, as `sslmode` of libpq has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Authority and name.
    #[default]
    VerifyFull,
    /// The authority, whatever the name.
    VerifyCa,
    /// Nothing: whoever answers is believed.
    Require,
    /// There is no TLS.
    Disable,
}

/// How TLS begins, as `sslnegotiation` of libpq has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsNegotiation {
    /// By asking for it first.
    #[default]
    Postgres,
    /// At once: PostgreSQL 17 and later.
    Direct,
}

impl DbTls {
    /// The longest `ca_cert`, in bytes.
    pub const MAX_CA: usize = 64 * 1024;

    /// The certificates of `ca_cert`.
    ///
    /// # Errors
    /// [`DocumentError::Field`] says what is wrong with the text.
    pub fn roots(&self) -> Result<Vec<CertificateDer<'static>>, DocumentError> {
        let refused = |why: &str| DocumentError::Field(format!("spec.tls.ca_cert: {why}"));
        if self.ca_cert.is_empty() {
            return Ok(Vec::new());
        }
        let roots: Vec<_> = CertificateDer::pem_slice_iter(self.ca_cert.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|err| refused(&format!("it is no PEM: {err}")))?;
        if roots.is_empty() {
            return Err(refused(
                "there is no certificate in it: agents read no files for a document, so write \
                 the PEM itself, from BEGIN CERTIFICATE to END CERTIFICATE",
            ));
        }
        Ok(roots)
    }

    /// Whether an agent could go by it.
    pub(super) fn check(&self) -> Result<(), DocumentError> {
        let Self { mode, ca_cert, server_name, negotiation: _, ca_cert_file: () } = self;
        let refused =
            |field: &str, why: &str| Err(DocumentError::Field(format!("spec.tls.{field}: {why}")));
        if ca_cert.len() > Self::MAX_CA {
            return refused("ca_cert", &format!("{} bytes at most", Self::MAX_CA));
        }
        if ca_cert.contains("PRIVATE KEY-----") {
            return refused("ca_cert", "there is a private key in it, and documents are no secret");
        }
        if !ca_cert.is_empty() && !matches!(mode, TlsMode::VerifyFull | TlsMode::VerifyCa) {
            return refused(
                "ca_cert",
                "this mode verifies nothing by it: use verify-full or verify-ca, or leave it out",
            );
        }
        for root in self.roots()? {
            if let Err(err) = webpki::anchor_from_trusted_cert(&root) {
                return refused("ca_cert", &format!("no authority's certificate: {err}"));
            }
        }
        match server_name {
            Some(name) if ServerName::try_from(name.as_str()).is_err() => {
                refused("server_name", "it is neither a DNS name nor an address")
            }
            _ => Ok(()),
        }
    }
}

/// The most addresses of one database.
const MAX_ADDRESSES: usize = 16;

/// Whether a text is `HOST:PORT`, or several with commas between them.
pub(super) fn check_addresses(uri: &str) -> Result<(), DocumentError> {
    let refused = |why: String| Err(DocumentError::Field(format!("spec.uri: {why}")));
    if uri.split(',').count() > MAX_ADDRESSES {
        return refused(format!("{MAX_ADDRESSES} addresses at most"));
    }
    for address in uri.split(',').map(str::trim) {
        if let Some((scheme, rest)) = address.split_once("://") {
            return refused(format!(
                "write HOST:PORT, such as db-1.internal:5432, without {scheme:.20}:// and {}",
                if rest.contains('@') { "without accounts or passwords" } else { "nothing more" }
            ));
        }
        let parts = address.rsplit_once(':');
        let Some((host, port)) = parts.filter(|(host, _)| !host.is_empty()) else {
            return refused(format!("{address:?} is no HOST:PORT, such as db-1.internal:5432"));
        };
        if !port.parse::<u16>().is_ok_and(|port| port != 0) || port.starts_with('+') {
            return refused(format!("{address:?}: {port:?} is no port from 1 to 65535"));
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let good = match bare {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
            // An address of IPv6 without brackets would be read in two ways.
            None => !host.contains(':') && ServerName::try_from(host).is_ok(),
        };
        if !good {
            return refused(format!(
                "{address:?}: {host:?} is neither a DNS name nor an address (IPv6 in brackets)"
            ));
        }
    }
    Ok(())
}

fn no_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    de::IgnoredAny::deserialize(deserializer)?;
    Err(de::Error::custom(
        "agents read no files for a document: write the certificate itself, in PEM, in ca_cert",
    ))
}

/// For the field that only an agent's own configuration has.
pub(super) fn no_password<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    de::IgnoredAny::deserialize(deserializer)?;
    Err(de::Error::custom(
        "agents read no files for a document: a database with a password belongs in \
         db_service.databases of its agent's configuration",
    ))
}
