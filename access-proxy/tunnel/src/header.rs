//! The header that a stream is opened with.
//!
//! ```text
//! version  u8   1
//! flags    u8   bit 0: flavour raw; bits 1-2: client address none (0), IPv4 (1), IPv6 (2);
//!               bit 3: session number
//! trace    16 bytes
//! address  4 or 16 bytes and a u16 port, if flagged
//! session  u32, if flagged
//! length   u8
//! target   UTF-8, `length` bytes
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut, BytesMut};

use crate::code::CloseCode;
use crate::error::Error;

/// The version that this crate writes and reads.
pub(crate) const HEADER_VERSION: u8 = 1;
/// Longest target in bytes.
pub const MAX_TARGET: usize = 255;

const RAW: u8 = 0b001;
const ADDR_SHIFT: u8 = 1;
const ADDR_MASK: u8 = 0b11;
const SESSION: u8 = 0b1000;
const KNOWN_FLAGS: u8 = 0b1111;

/// What the bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// A TLS connection of the client that the target's side terminates.
    Tls,
    /// The target's own protocol, without TLS around it.
    Raw,
}

/// What the opener of a stream says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenHeader {
    /// What is to be reached, like `node/web-1`; at most 255 bytes.
    pub target: String,
    /// Where the client came from, as the opener saw it. Scope and flow label of an IPv6 address
    /// are not carried.
    pub client_addr: Option<SocketAddr>,
    /// The id under which both ends log this connection.
    pub trace_id: [u8; 16],
    /// What the bytes of the stream are.
    pub flavour: Flavour,
    /// The number under which the opener finds this stream again while it is open, if it gave
    /// one: for protocols whose clients name a session on another connection.
    pub session: Option<u32>,
}

impl OpenHeader {
    /// A header for `target` with no client address, no session number and a zero trace id.
    pub fn new(target: impl Into<String>, flavour: Flavour) -> Self {
        Self { target: target.into(), client_addr: None, trace_id: [0; 16], flavour, session: None }
    }

    /// Appends the encoded header.
    ///
    /// # Errors
    /// [`Error::TargetTooLong`] if the target has more than 255 bytes.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), Error> {
        let length =
            u8::try_from(self.target.len()).map_err(|_| Error::TargetTooLong(self.target.len()))?;
        let mut flags = if self.flavour == Flavour::Raw { RAW } else { 0 };
        flags |= match self.client_addr {
            None => 0,
            Some(SocketAddr::V4(_)) => 1 << ADDR_SHIFT,
            Some(SocketAddr::V6(_)) => 2 << ADDR_SHIFT,
        };
        if self.session.is_some() {
            flags |= SESSION;
        }
        out.put_u8(HEADER_VERSION);
        out.put_u8(flags);
        out.put_slice(&self.trace_id);
        if let Some(addr) = self.client_addr {
            match addr.ip() {
                IpAddr::V4(ip) => out.put_slice(&ip.octets()),
                IpAddr::V6(ip) => out.put_slice(&ip.octets()),
            }
            out.put_u16(addr.port());
        }
        if let Some(session) = self.session {
            out.put_u32(session);
        }
        out.put_u8(length);
        out.put_slice(self.target.as_bytes());
        Ok(())
    }

    /// Reads a whole header of the known version. Nothing may be left over.
    ///
    /// # Errors
    /// [`CloseCode::HEADER`] for anything else.
    pub fn decode(mut input: &[u8]) -> Result<Self, CloseCode> {
        const BAD: CloseCode = CloseCode::HEADER;
        if input.try_get_u8().map_err(|_| BAD)? != HEADER_VERSION {
            return Err(BAD);
        }
        let flags = input.try_get_u8().map_err(|_| BAD)?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(BAD);
        }
        let flavour = if flags & RAW != 0 { Flavour::Raw } else { Flavour::Tls };
        let mut trace_id = [0; 16];
        input.try_copy_to_slice(&mut trace_id).map_err(|_| BAD)?;
        let ip = match (flags >> ADDR_SHIFT) & ADDR_MASK {
            0 => None,
            1 => Some(IpAddr::from(Ipv4Addr::from(input.try_get_u32().map_err(|_| BAD)?))),
            2 => Some(IpAddr::from(Ipv6Addr::from(input.try_get_u128().map_err(|_| BAD)?))),
            _ => return Err(BAD),
        };
        let client_addr = match ip {
            None => None,
            Some(ip) => Some(SocketAddr::new(ip, input.try_get_u16().map_err(|_| BAD)?)),
        };
        let session = match flags & SESSION {
            0 => None,
            _ => Some(input.try_get_u32().map_err(|_| BAD)?),
        };
        let length = usize::from(input.try_get_u8().map_err(|_| BAD)?);
        if input.len() != length {
            return Err(BAD);
        }
        let target = std::str::from_utf8(input).map_err(|_| BAD)?.to_owned();
        Ok(Self { target, client_addr, trace_id, flavour, session })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(header: &OpenHeader) -> BytesMut {
        let mut out = BytesMut::new();
        header.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn survives_the_wire() {
        for addr in [None, Some("192.0.2.7:22"), Some("[2001:db8::1]:65535")] {
            for (flavour, session) in [(Flavour::Tls, Some(0x7fff_0001)), (Flavour::Raw, None)] {
                let header = OpenHeader {
                    target: "node/wéb-1".into(),
                    client_addr: addr.map(|a| a.parse().unwrap()),
                    trace_id: *b"0123456789abcdef",
                    flavour,
                    session,
                };
                assert_eq!(OpenHeader::decode(&encoded(&header)), Ok(header));
            }
        }
    }

    #[test]
    fn long_target_is_misuse() {
        let header = OpenHeader::new("x".repeat(256), Flavour::Tls);
        assert_eq!(header.encode(&mut BytesMut::new()), Err(Error::TargetTooLong(256)));
        assert!(
            OpenHeader::new("x".repeat(255), Flavour::Tls).encode(&mut BytesMut::new()).is_ok()
        );
    }

    #[test]
    fn garbage_is_refused() {
        let good = encoded(&OpenHeader::new("node/a", Flavour::Raw));
        for cut in 0..good.len() {
            assert_eq!(OpenHeader::decode(&good[..cut]), Err(CloseCode::HEADER), "cut at {cut}");
        }
        let mut long = good.clone();
        long.put_u8(0);
        assert_eq!(OpenHeader::decode(&long), Err(CloseCode::HEADER));
        for (at, value) in [(0, 2), (1, 0b1_0000), (1, 0b110), (1, 0b1000), (19, 0xff)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(OpenHeader::decode(&bad), Err(CloseCode::HEADER), "byte {at}");
        }
    }
}
