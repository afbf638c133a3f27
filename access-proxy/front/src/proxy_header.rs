//! The PROXY protocol, versions 1 and 2: a load balancer in front tells the client's address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest header that is read, in bytes: version 2 with extensions.
pub(crate) const MAX_HEADER: usize = 2048;
/// The longest header of version 1, in bytes, with the end of its line.
const MAX_LINE: usize = 107;

/// Reads the header off the front of a connection and tells the client's address; `peer`, the
/// balancer's own, for its health checks.
///
/// `None`: there is no header, it is broken, or it did not come in time. What follows the header
/// stays in `buffer`.
pub(crate) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    peer: SocketAddr,
    deadline: Duration,
) -> Option<SocketAddr> {
    let read = async {
        loop {
            if let Some(header) = so_far(buffer)? {
                let parsed = HeaderResult::parse(header);
                // Of version 1 there is a whole line.
                if parsed.is_complete() || header.starts_with(b"P") {
                    let (length, client) = client_of(&parsed, peer)?;
                    buffer.advance(length);
                    return Some(client);
                }
            }
            if buffer.len() >= MAX_HEADER || stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
    };
    tokio::time::timeout(deadline, read).await.ok().flatten()
}

/// What there is of a header, once it can be judged; `None` when it never can.
///
/// Version 1 is a line of text, which is judged as a whole: half an address looks like a wrong
/// one, and half a port like another port.
fn so_far(buffer: &[u8]) -> Option<Option<&[u8]>> {
    if buffer.first() != Some(&b'P') {
        return Some((!buffer.is_empty()).then_some(buffer));
    }
    let line = buffer.get(..MAX_LINE).unwrap_or(buffer);
    match line.windows(2).position(|end| end == b"\r\n") {
        Some(at) => Some(line.get(..at + 2)),
        None if line.len() == MAX_LINE => None,
        None => Some(None),
    }
}

fn client_of(parsed: &HeaderResult<'_>, peer: SocketAddr) -> Option<(usize, SocketAddr)> {
    match parsed {
        HeaderResult::V1(Ok(header)) => {
            let client = match header.addresses {
                v1::Addresses::Tcp4(a) => address(a.source_address, a.source_port),
                v1::Addresses::Tcp6(a) => address(a.source_address, a.source_port),
                v1::Addresses::Unknown => peer,
            };
            Some((header.header.len(), client))
        }
        HeaderResult::V2(Ok(header)) => {
            let client = match (header.command, header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(a)) => {
                    address(a.source_address, a.source_port)
                }
                (v2::Command::Proxy, v2::Addresses::IPv6(a)) => {
                    address(a.source_address, a.source_port)
                }
                _ => peer,
            };
            Some((header.len(), client))
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => None,
    }
}

fn address(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parse(bytes: &[u8]) -> (Option<SocketAddr>, BytesMut) {
        let mut buffer = BytesMut::new();
        let mut stream = bytes;
        let peer = "10.0.0.1:5".parse().unwrap();
        let client = read(&mut stream, &mut buffer, peer, Duration::from_secs(1)).await;
        buffer.extend_from_slice(stream);
        (client, buffer)
    }

    #[tokio::test]
    async fn both_versions_tell_the_client_and_leave_what_follows() {
        let (client, rest) = parse(b"PROXY TCP4 192.0.2.7 10.0.0.1 4242 443\r\nrest").await;
        assert_eq!(client.unwrap().to_string(), "192.0.2.7:4242");
        assert_eq!(&rest[..], b"rest");
        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        v2.extend([192, 0, 2, 8, 10, 0, 0, 1, 0x10, 0x92, 1, 187]);
        v2.extend(b"rest");
        let (client, rest) = parse(&v2).await;
        assert_eq!(client.unwrap().to_string(), "192.0.2.8:4242");
        assert_eq!(&rest[..], b"rest");
    }

    #[tokio::test]
    async fn a_header_may_come_in_pieces() {
        let line = b"PROXY TCP6 2001:db8::17 2001:db8::1 4242 443\r\n";
        for cut in 1..line.len() {
            let (first, second) = line.split_at(cut);
            let mut stream = AsyncReadExt::chain(first, second);
            let (mut buffer, peer) = (BytesMut::new(), "10.0.0.1:5".parse().unwrap());
            let client = read(&mut stream, &mut buffer, peer, Duration::from_secs(1)).await;
            let client = client.map(|client| client.to_string());
            assert_eq!(client.as_deref(), Some("[2001:db8::17]:4242"), "cut at {cut}");
            assert!(buffer.is_empty());
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_refused_at_once() {
        let (mut client, mut server) = tokio::io::duplex(256);
        tokio::io::AsyncWriteExt::write_all(&mut client, &[b'P'; MAX_LINE]).await.unwrap();
        let peer = "10.0.0.1:5".parse().unwrap();
        let mut buffer = BytesMut::new();
        let reading = read(&mut server, &mut buffer, peer, Duration::from_secs(3600));
        let read = tokio::time::timeout(Duration::from_secs(10), reading).await;
        assert_eq!(read.expect("it waits for more"), None);
    }

    #[tokio::test]
    async fn a_connection_without_a_header_is_refused() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY nonsense\r\n", b"", b"PROXY TCP4 1"] {
            assert_eq!(parse(bytes).await.0, None, "{bytes:?}");
        }
    }
}
