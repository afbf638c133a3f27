//! `HOST:PORT`, with IPv6 in brackets.

use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::error::ClientError;

/// A host (name or address) and a port. IPv6 addresses are written in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`; a `https://` before and a path behind
    /// are ignored, because people paste addresses from browsers.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] when it has another form.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, ClientError> {
        let error = || {
            let text: String = text.chars().take(80).collect();
            ClientError::Invalid(format!("{text:?} is no address: write HOST:PORT or [IPV6]:PORT"))
        };
        let bare = text.trim().trim_start_matches("https://");
        let bare = bare.split('/').next().unwrap_or_default();
        let (host, port) = if let Some(rest) = bare.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(error)?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(error)?)
        } else if bare.parse::<IpAddr>().is_ok() {
            (bare, "")
        } else {
            match bare.split_once(':') {
                Some((host, port)) => (host, port),
                None => (bare, ""),
            }
        };
        let port =
            if port.is_empty() { default_port } else { port.parse().map_err(|_| error())? };
        ServerName::try_from(host).map_err(|_| error())?;
        Ok(Self { host: host.to_owned(), port })
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host for TLS.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] when it is none; the constructor has checked that.
    pub fn server_name(&self) -> Result<ServerName<'static>, ClientError> {
        ServerName::try_from(self.host.clone())
            .map_err(|_| ClientError::Invalid(format!("{:?} is no host", self.host)))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::str::FromStr for HostPort {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        Self::parse(text, 443)
    }
}

impl TryFrom<String> for HostPort {
    type Error = ClientError;

    fn try_from(text: String) -> Result<Self, ClientError> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, shown) in [
            ("example.com", "example.com:443"),
            ("example.com:3080", "example.com:3080"),
            ("https://example.com:3080/web", "example.com:3080"),
            ("[::1]:3080", "[::1]:3080"),
            ("[::1]", "[::1]:443"),
            ("::1", "[::1]:443"),
            ("127.0.0.1:1", "127.0.0.1:1"),
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), shown, "{text}");
        }
        for text in ["", ":1", "a:b", "a:99999", "[::1", "[::1]x", "a b"] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
