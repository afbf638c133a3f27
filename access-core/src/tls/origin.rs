//! Where a client comes from, told to Auth by the proxy that copies its bytes.
//!
//! The bytes are the client's own TLS, so the proxy can put nothing within them. It puts a header
//! of the PROXY protocol before them, version 2
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>), with one extension of ours:
//!
//! ```text
//! signature, version, family, length    16 bytes
//! source and destination                12 bytes (IPv4) or 36 (IPv6)
//! extension 0xEA
//!     format       1 byte     1
//!     time         8 bytes    milliseconds since 1970
//!     signature    2 bytes of length, then ECDSA P-256 with SHA-256, in ASN.1
//!     certificate  the rest: the proxy's host certificate
//! ```
//!
//! What is signed names the cluster, both addresses, the time, and the whole ClientHello that
//! follows. Somebody who has seen a header can put it before the same ClientHello only, whose
//! handshake nobody can finish but the client that has the keys to it: in TLS 1.3, and when the
//! server does not ask for [another ClientHello](https://www.rfc-editor.org/rfc/rfc8446#section-4.1.4),
//! which a server has to see to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ring::digest;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::{SharedKey, TlsError};
use crate::identity::{Service, TrustStore, VerifiedIdentity, VerifyError};
use crate::ids::ClusterName;
use crate::time::Timestamp;

/// How far the proxy's clock may be from the reader's.
pub const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(90);

/// The longest header, in bytes. A certificate has one or two thousand.
pub const MAX_HEADER: usize = 16 * 1024;

/// The bytes of a header that tell its length.
pub const HEADER_START: usize = 16;

/// The longest ClientHello, in bytes, and the most records that it may be cut into.
const MAX_HELLO: usize = 64 * 1024;
const MAX_RECORDS: usize = 32;

const MAGIC: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;
/// One of the types that the protocol leaves to its users.
const EXTENSION: u8 = 0xEA;
const FORMAT: u8 = 1;

/// What every signature of this kind begins with. A host's key signs TLS handshakes as well: those
/// of TLS 1.3 begin with 64 spaces, those of TLS 1.2 with 64 bytes of which a peer chooses the
/// first half. This is longer than both, so that none is ever taken for the other.
const DOMAIN: &[u8] =
    b"access: the address that a client of the auth service comes from, told by a proxy\0";

/// The two ends of a client's connection to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client's address.
    pub client: SocketAddr,
    /// Where it came to.
    pub proxy: SocketAddr,
}

/// What keeps a header from being written or believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// It is no header, or a broken one.
    #[error("no header of a proxy of this cluster: {0}")]
    Malformed(&'static str),
    /// It is longer than any can be.
    #[error("the header is too long")]
    TooLong,
    /// What follows it is no ClientHello.
    #[error("no ClientHello follows")]
    NoHello,
    /// The certificate in it is not good.
    #[error("the proxy's certificate: {0}")]
    Certificate(#[from] VerifyError),
    /// The certificate is somebody's who is no proxy.
    #[error("{0} is no proxy")]
    NotAProxy(String),
    /// It was signed by somebody else, or for another connection.
    #[error("the header was not signed by its proxy for this connection")]
    Signature,
    /// It was made at another time.
    #[error("the header is {0} s off: the clocks differ, or it is not its first use")]
    Time(i64),
    /// The key cannot sign.
    #[error(transparent)]
    Key(#[from] TlsError),
}

/// Writes the header that goes before a client's first bytes, which hold its whole ClientHello.
///
/// # Errors
/// [`OriginError::NoHello`], [`OriginError::Key`], or [`OriginError::TooLong`] for a certificate
/// that fits into no header.
pub fn write_origin(
    key: &SharedKey,
    cluster: &ClusterName,
    ends: Ends,
    now: Timestamp,
    first: &[u8],
) -> Result<Vec<u8>, OriginError> {
    let hello = hello_digest(first)?.ok_or(OriginError::NoHello)?;
    let (family, addresses) = write_ends(ends);
    let time = now.as_millis().to_be_bytes();
    let (certificate, signature) = key.sign(&message(cluster, family, &addresses, time, &hello))?;
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).map_err(|_| OriginError::TooLong);
    let mut value = vec![FORMAT];
    value.extend(time);
    value.extend(length(&signature)?.to_be_bytes());
    value.extend(signature);
    value.extend_from_slice(&certificate);
    let mut body = addresses;
    body.push(EXTENSION);
    body.extend(length(&value)?.to_be_bytes());
    body.extend(value);
    let mut header = MAGIC.to_vec();
    header.extend([VERSION_2_PROXY, family]);
    header.extend(length(&body)?.to_be_bytes());
    header.extend(body);
    if header.len() > MAX_HEADER { Err(OriginError::TooLong) } else { Ok(header) }
}

/// Whether a connection with this first byte starts with a header; no record of TLS does.
pub fn starts_origin(first: u8) -> bool {
    MAGIC.first() == Some(&first)
}

/// The length of a whole header, by its first [`HEADER_START`] bytes.
///
/// # Errors
/// [`OriginError::Malformed`], [`OriginError::TooLong`].
pub fn origin_length(start: [u8; HEADER_START]) -> Result<usize, OriginError> {
    let mut start = start.as_slice();
    if take(&mut start, MAGIC.len())? != MAGIC || take(&mut start, 1)? != [VERSION_2_PROXY] {
        return Err(OriginError::Malformed("it starts otherwise"));
    }
    take(&mut start, 1)?;
    let length = HEADER_START + usize::from(number(&mut start)?);
    if length > MAX_HEADER { Err(OriginError::TooLong) } else { Ok(length) }
}

/// A header as it was read: nobody has vouched for it yet.
#[derive(Debug)]
pub struct Origin {
    family: u8,
    addresses: Vec<u8>,
    ends: Ends,
    time: [u8; 8],
    signature: Vec<u8>,
    certificate: CertificateDer<'static>,
}

/// Where a client comes from, on the word of a proxy.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifiedOrigin {
    /// The client's address.
    pub client: SocketAddr,
    /// Who says so.
    pub proxy: VerifiedIdentity,
}

impl Origin {
    /// Reads a whole header.
    ///
    /// # Errors
    /// [`OriginError::Malformed`], [`OriginError::TooLong`].
    pub fn read(header: &[u8]) -> Result<Self, OriginError> {
        let start = header.first_chunk().ok_or(OriginError::Malformed("it ends too early"))?;
        if header.len() != origin_length(*start)? {
            return Err(OriginError::Malformed("it has another length"));
        }
        let mut rest = header.get(MAGIC.len() + 1..).unwrap_or_default();
        let family = *take(&mut rest, 1)?.first().unwrap_or(&0);
        take(&mut rest, 2)?;
        let size = match family {
            TCP_V4 => 12,
            TCP_V6 => 36,
            _ => return Err(OriginError::Malformed("it tells no address of TCP")),
        };
        let addresses = take(&mut rest, size)?.to_vec();
        let ends = read_ends(&addresses)?;
        let mut found = None;
        while !rest.is_empty() {
            let kind = take(&mut rest, 1)?.first().copied();
            let length = number(&mut rest)?;
            let value = take(&mut rest, usize::from(length))?;
            if kind == Some(EXTENSION) && found.replace(value).is_some() {
                return Err(OriginError::Malformed("it is signed twice"));
            }
        }
        let mut value = found.ok_or(OriginError::Malformed("it is not signed"))?;
        if take(&mut value, 1)? != [FORMAT] {
            return Err(OriginError::Malformed("it is signed in an unknown way"));
        }
        let time = *take(&mut value, 8)?.first_chunk().ok_or(OriginError::Signature)?;
        let length = number(&mut value)?;
        let signature = take(&mut value, usize::from(length))?.to_vec();
        let certificate = CertificateDer::from(value.to_vec());
        Ok(Self { family, addresses, ends, time, signature, certificate })
    }

    /// Who vouches for the client's address: a proxy of the cluster, at about this time, for the
    /// connection that goes on with the ClientHello of this digest.
    ///
    /// # Errors
    /// The [`OriginError`] that says why nobody does.
    pub fn verify(
        self,
        trust: &TrustStore,
        now: Timestamp,
        hello: &HelloDigest,
    ) -> Result<VerifiedOrigin, OriginError> {
        let proxy = trust.verify_tls(std::slice::from_ref(&self.certificate), now)?;
        if !proxy.host().is_some_and(|(_, services)| services.contains(&Service::Proxy)) {
            return Err(OriginError::NotAProxy(proxy.name().to_owned()));
        }
        let message = message(trust.cluster(), self.family, &self.addresses, self.time, hello);
        EndEntityCert::try_from(&self.certificate)
            .and_then(|cert| {
                let algorithm = webpki::ring::ECDSA_P256_SHA256;
                cert.verify_signature(algorithm, &message, &self.signature)
            })
            .map_err(|_| OriginError::Signature)?;
        let off = i64::from_be_bytes(self.time).saturating_sub(now.as_millis());
        if Duration::from_millis(off.unsigned_abs()) > MAX_CLOCK_DIFFERENCE {
            return Err(OriginError::Time(off / 1000));
        }
        Ok(VerifiedOrigin { client: self.ends.client, proxy })
    }
}

/// The SHA-256 of a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloDigest([u8; 32]);

/// The digest of the ClientHello that a connection begins with: of the handshake message without
/// the records around it (RFC 8446, sections 4 and 5.1). `None` while more of it is to come.
///
/// # Errors
/// [`OriginError::NoHello`] when it is something else, too long, or in too many pieces.
pub fn hello_digest(first: &[u8]) -> Result<Option<HelloDigest>, OriginError> {
    let mut pieces = [&[][..]; MAX_RECORDS];
    let mut rest = first;
    let mut missing = None;
    for at in 0..MAX_RECORDS {
        let [kind, _, _, high, low, ..] = *rest else {
            return if rest.is_empty() || rest.first() == Some(&22) {
                Ok(None)
            } else {
                Err(OriginError::NoHello)
            };
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != 22 || length == 0 {
            return Err(OriginError::NoHello);
        }
        let Some(record) = rest.get(5..5 + length) else { return Ok(None) };
        rest = rest.get(5 + length..).unwrap_or_default();
        let missing = match &mut missing {
            Some(missing) => missing,
            None => missing.insert(hello_length(record)?),
        };
        let piece = record.get(..(*missing).min(length)).unwrap_or_default();
        *missing -= piece.len();
        if let Some(slot) = pieces.get_mut(at) {
            *slot = piece;
        }
        if *missing == 0 {
            let mut context = digest::Context::new(&digest::SHA256);
            pieces.iter().for_each(|piece| context.update(piece));
            let digest = context.finish();
            let digest = digest.as_ref().first_chunk().ok_or(OriginError::NoHello)?;
            return Ok(Some(HelloDigest(*digest)));
        }
    }
    Err(OriginError::NoHello)
}

/// How long the message is whose first piece this is, its own header included.
fn hello_length(piece: &[u8]) -> Result<usize, OriginError> {
    // No client cuts within the first four bytes.
    let [1, high, middle, low, ..] = *piece else { return Err(OriginError::NoHello) };
    let length = u32::from_be_bytes([0, high, middle, low]);
    let length = 4 + usize::try_from(length).map_err(|_| OriginError::NoHello)?;
    if length > MAX_HELLO { Err(OriginError::NoHello) } else { Ok(length) }
}

fn message(
    cluster: &ClusterName,
    family: u8,
    addresses: &[u8],
    time: [u8; 8],
    hello: &HelloDigest,
) -> Vec<u8> {
    // The parts after the name have lengths that follow from the family, and no name has a zero.
    let name = cluster.as_str().as_bytes();
    [DOMAIN, name, &[0, family], addresses, &time, &hello.0].concat()
}

fn write_ends(ends: Ends) -> (u8, Vec<u8>) {
    let (client, proxy) = (ends.client.ip().to_canonical(), ends.proxy.ip().to_canonical());
    let (family, mut bytes) = match (client, proxy) {
        (IpAddr::V4(client), IpAddr::V4(proxy)) => {
            (TCP_V4, [client.octets(), proxy.octets()].concat())
        }
        (client, proxy) => (TCP_V6, [client, proxy].map(|ip| wide(ip).octets()).concat()),
    };
    bytes.extend(ends.client.port().to_be_bytes());
    bytes.extend(ends.proxy.port().to_be_bytes());
    (family, bytes)
}

fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn read_ends(mut bytes: &[u8]) -> Result<Ends, OriginError> {
    let short = OriginError::Malformed("an address ends too early");
    let (client, proxy): (IpAddr, IpAddr) = if bytes.len() == 12 {
        let mut v4 = || take(&mut bytes, 4).ok()?.first_chunk::<4>().copied();
        match (v4(), v4()) {
            (Some(client), Some(proxy)) => {
                (Ipv4Addr::from(client).into(), Ipv4Addr::from(proxy).into())
            }
            _ => return Err(short),
        }
    } else {
        let mut v6 = || take(&mut bytes, 16).ok()?.first_chunk::<16>().copied();
        match (v6(), v6()) {
            (Some(client), Some(proxy)) => {
                (Ipv6Addr::from(client).into(), Ipv6Addr::from(proxy).into())
            }
            _ => return Err(short),
        }
    };
    let (client_port, proxy_port) = (number(&mut bytes)?, number(&mut bytes)?);
    Ok(Ends {
        client: SocketAddr::new(client.to_canonical(), client_port),
        proxy: SocketAddr::new(proxy.to_canonical(), proxy_port),
    })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], OriginError> {
    let (taken, rest) =
        bytes.split_at_checked(count).ok_or(OriginError::Malformed("it ends too early"))?;
    *bytes = rest;
    Ok(taken)
}

fn number(bytes: &mut &[u8]) -> Result<u16, OriginError> {
    let taken = take(bytes, 2)?.first_chunk::<2>();
    Ok(taken.map_or(0, |two| u16::from_be_bytes(*two)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, proxy: &str) -> Ends {
        Ends { client: client.parse().unwrap(), proxy: proxy.parse().unwrap() }
    }

    /// A header whose extension is well formed and signed by nobody.
    fn header(extensions: &[(u8, &[u8])]) -> Vec<u8> {
        let (family, mut body) = write_ends(ends("192.0.2.7:4242", "198.51.100.1:443"));
        for (kind, value) in extensions {
            body.push(*kind);
            body.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            body.extend(*value);
        }
        let mut header = [&MAGIC[..], &[VERSION_2_PROXY, family]].concat();
        header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        header.extend(body);
        header
    }

    fn value() -> Vec<u8> {
        [&[FORMAT][..], &77i64.to_be_bytes(), &[0, 3], b"sig", b"certificate"].concat()
    }

    #[test]
    fn a_header_is_read_and_what_is_unknown_in_it_is_passed_over() {
        let header = header(&[(0x03, b"crc"), (EXTENSION, &value()), (0x20, b"")]);
        let origin = Origin::read(&header).unwrap();
        assert_eq!(origin.ends, ends("192.0.2.7:4242", "198.51.100.1:443"));
        assert_eq!(i64::from_be_bytes(origin.time), 77);
        assert_eq!(origin.signature, b"sig");
        assert_eq!(&origin.certificate[..], b"certificate");
    }

    #[test]
    fn a_header_that_ends_early_or_late_or_is_another_kind_is_refused() {
        let good = header(&[(EXTENSION, &value())]);
        for end in 0..good.len() {
            assert!(Origin::read(&good[..end]).is_err(), "{end} bytes");
        }
        assert!(Origin::read(&[&good[..], b"x"].concat()).is_err());
        assert!(Origin::read(&header(&[])).is_err(), "not signed");
        assert!(Origin::read(&header(&[(EXTENSION, &value()), (EXTENSION, &value())])).is_err());
        // A balancer's own health check, UDP, version 1, another format.
        for (at, byte) in [(12, 0x20), (13, 0x12), (12, 0x11), (0, b'P'), (31, 2)] {
            let mut other = good.clone();
            other[at] = byte;
            assert!(Origin::read(&other).is_err(), "byte {at} is {byte:#x}");
        }
        let mut long = good;
        long[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        assert!(matches!(origin_length(*long.first_chunk().unwrap()), Err(OriginError::TooLong)));
    }

    #[test]
    fn addresses_of_both_families_survive() {
        for (client, proxy, size) in [
            ("192.0.2.7:1", "198.51.100.1:443", 12),
            ("[2001:db8::7]:1", "[2001:db8::1]:443", 36),
            ("192.0.2.7:1", "[2001:db8::1]:443", 36),
        ] {
            let told = ends(client, proxy);
            let (_, bytes) = write_ends(told);
            assert_eq!(bytes.len(), size);
            assert_eq!(read_ends(&bytes).unwrap(), told);
        }
        let (family, _) = write_ends(ends("[::ffff:192.0.2.7]:1", "[::ffff:198.51.100.1]:443"));
        assert_eq!(family, TCP_V4);
    }

    /// A ClientHello cut into records of a size.
    fn hello(length: usize, record: usize) -> Vec<u8> {
        let mut message = vec![1];
        message.extend(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
        message.extend((0..length).map(|n| n as u8));
        let mut bytes = Vec::new();
        for piece in message.chunks(record) {
            bytes.extend([22, 3, 1]);
            bytes.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
            bytes.extend(piece);
        }
        bytes
    }

    #[test]
    fn a_hello_has_one_digest_however_it_is_cut() {
        let whole = hello_digest(&hello(600, 16_000)).unwrap().unwrap();
        assert_eq!(hello_digest(&hello(600, 50)).unwrap(), Some(whole));
        let mut followed = hello(600, 16_000);
        followed.extend(b"what comes next");
        assert_eq!(hello_digest(&followed).unwrap(), Some(whole));
        let mut altered = hello(600, 16_000);
        altered[300] ^= 1;
        assert_ne!(hello_digest(&altered).unwrap(), Some(whole));
        for end in 0..hello(600, 50).len() {
            assert_eq!(hello_digest(&hello(600, 50)[..end]).unwrap(), None, "{end} bytes");
        }
    }

    #[test]
    fn what_is_no_hello_is_not_waited_for() {
        let large = hello(MAX_HELLO, 16_000);
        for bytes in
            [&b"GET / HTTP/1.1"[..], &[22, 3, 1, 0, 0], &[22, 3, 1, 0, 4, 2, 0, 0, 0], &large]
        {
            assert!(hello_digest(bytes).is_err(), "{:?}", &bytes[..5]);
        }
        assert!(hello_digest(&hello(600, 4)).is_err(), "too many pieces");
    }

    #[test]
    fn what_is_signed_begins_as_no_handshake_does() {
        assert!(DOMAIN.len() > 64);
    }
}
