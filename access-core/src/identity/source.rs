//! The addresses that a certificate may be used from.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One or more networks, in the form of OpenSSH's `source-address` option
/// (PROTOCOL.certkeys): `203.0.113.0/24,2001:db8::1`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourcePin(Vec<Network>);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no list of networks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address or network such as 203.0.113.0/24")]
pub struct SourcePinError(String);

impl SourcePin {
    /// The most networks in one pin.
    pub const MAX_NETWORKS: usize = 64;

    /// A pin to one address.
    pub fn address(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self(vec![Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } }])
    }

    /// Whether an address lies in one of the networks. An IPv4 address in IPv6 form is the IPv4
    /// address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        fn same(a: u128, b: u128, width: u32, prefix: u8) -> bool {
            let shift = width - u32::from(prefix).min(width);
            a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
        }
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                same(u128::from(a.to_bits()), u128::from(b.to_bits()), 32, self.prefix)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128, self.prefix),
            _ => false,
        }
    }
}

impl std::str::FromStr for SourcePin {
    type Err = SourcePinError;

    fn from_str(text: &str) -> Result<Self, SourcePinError> {
        let error = |part: &str| SourcePinError(part.chars().take(64).collect());
        let networks = text
            .split(',')
            .map(|part| {
                let part = part.trim();
                let (address, prefix) = match part.split_once('/') {
                    Some((address, prefix)) => (address, Some(prefix)),
                    None => (part, None),
                };
                let address: IpAddr = address.parse().map_err(|_| error(part))?;
                let address = address.to_canonical();
                let widest = if address.is_ipv4() { 32 } else { 128 };
                let prefix = match prefix {
                    Some(prefix) => prefix.parse().map_err(|_| error(part))?,
                    None => widest,
                };
                if prefix > widest {
                    return Err(error(part));
                }
                Ok(Network { address, prefix })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if networks.len() > Self::MAX_NETWORKS {
            return Err(error(text));
        }
        Ok(Self(networks))
    }
}

impl fmt::Display for SourcePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, network) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}/{}", network.address, network.prefix)?;
        }
        Ok(())
    }
}

impl fmt::Debug for SourcePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<SourcePin> for String {
    fn from(pin: SourcePin) -> Self {
        pin.to_string()
    }
}

impl TryFrom<String> for SourcePin {
    type Error = SourcePinError;

    fn try_from(text: String) -> Result<Self, SourcePinError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_should() {
        let pin: SourcePin = "203.0.113.0/24, 2001:db8::/32,198.51.100.7".parse().unwrap();
        for (address, inside) in [
            ("203.0.113.255", true),
            ("203.0.114.0", false),
            ("::ffff:203.0.113.9", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
        ] {
            assert_eq!(pin.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert_eq!(pin.to_string().parse::<SourcePin>().unwrap(), pin);
        assert!("0.0.0.0/0".parse::<SourcePin>().unwrap().contains([9, 9, 9, 9].into()));
        for text in ["", "10.0.0.0/33", "host", "1.2.3.4,,"] {
            assert!(text.parse::<SourcePin>().is_err(), "{text:?}");
        }
    }
}
