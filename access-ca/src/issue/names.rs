//! Names that stand in host certificates.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use access_core::is_dns_label;

use crate::error::{Error, Result, shown};

/// A DNS name or an IP address for a certificate's subjectAltName (RFC 5280, section 4.2.1.6).
///
/// DNS names are kept in lower case; the first label may be `*` (RFC 6125, section 6.4.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SanName(Name);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    Dns(String),
    Ip(IpAddr),
}

impl SanName {
    /// The IP address, when it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.0 {
            Name::Ip(address) => Some(*address),
            Name::Dns(_) => None,
        }
    }

    /// The DNS name, when it is one.
    pub fn dns(&self) -> Option<&str> {
        match &self.0 {
            Name::Dns(name) => Some(name),
            Name::Ip(_) => None,
        }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.0
    }
}

impl From<IpAddr> for SanName {
    fn from(address: IpAddr) -> Self {
        Self(Name::Ip(address.to_canonical()))
    }
}

impl FromStr for SanName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let wrong = |why| Error::Name { name: shown(text), why };
        let name = text.to_ascii_lowercase();
        if name.len() > 253 {
            return Err(wrong("it is longer than 253 characters"));
        }
        let (wildcard, plain) = match name.strip_prefix("*.") {
            Some(plain) => (true, plain),
            None => (false, name.as_str()),
        };
        if !plain.split('.').all(is_dns_label) {
            return Err(wrong("it is neither a DNS name nor an IP address"));
        }
        if wildcard && !plain.contains('.') {
            return Err(wrong("a wildcard must not cover a whole top-level domain"));
        }
        Ok(Self(Name::Dns(name)))
    }
}

impl fmt::Display for SanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Name::Dns(name) => f.write_str(name),
            Name::Ip(address) => address.fmt(f),
        }
    }
}

/// Whether a text can be a principal of an SSH host certificate. OpenSSH's client takes those for
/// patterns, so that `*` would be every host.
pub(crate) fn check_host_principal(principal: &str) -> Result<()> {
    let wrong = |why| Err(Error::Name { name: shown(principal), why });
    if principal.is_empty() || principal.len() > 253 {
        return wrong("a principal must have 1 to 253 characters");
    }
    if principal.contains(['*', '?', '!', ',']) {
        return wrong("OpenSSH would take it for a pattern");
    }
    if principal.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return wrong("it has a space or a control character");
    }
    Ok(())
}
