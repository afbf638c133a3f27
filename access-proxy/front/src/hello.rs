//! The ClientHello, read without answering it.

use std::io::Cursor;
use std::time::Duration;

use access_core::ClusterName;
use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::route::{Route, route};

/// The largest ClientHello that is waited for, in bytes.
const MAX_HELLO: usize = 64 * 1024;
/// As much is read at once: most have less.
const CHUNK: usize = 1024;

/// Reads a ClientHello and finds its route; everything that was read stays in `buffer`.
///
/// `None`: the client closed, was too slow, or sent no ClientHello.
pub(crate) async fn read_route<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    cluster: &ClusterName,
    deadline: Duration,
) -> Option<Route> {
    let read = async {
        let mut acceptor = Acceptor::default();
        let mut seen = 0;
        loop {
            let mut fresh = Cursor::new(buffer.get(seen..).unwrap_or_default());
            while usize::try_from(fresh.position()).ok()? < fresh.get_ref().len() {
                acceptor.read_tls(&mut fresh).ok()?;
            }
            seen = buffer.len();
            if let Some(accepted) = acceptor.accept().ok()? {
                let hello = accepted.client_hello();
                let offered = hello.alpn().into_iter().flatten();
                let offered: Vec<&[u8]> = offered.collect();
                return Some(route(cluster, hello.server_name(), offered.iter().copied()));
            }
            if buffer.len() > MAX_HELLO {
                return None;
            }
            buffer.reserve(CHUNK);
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
    };
    tokio::time::timeout(deadline, read).await.ok().flatten()
}

/// The alert that refuses a name: fatal, unrecognized_name (RFC 6066, section 3), in a plain
/// record, since no key was agreed on.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn client_hello(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|a| a.to_vec()).collect();
        let name = name.to_owned().try_into().unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    async fn routed(bytes: &[u8], chunk: usize) -> (Option<Route>, BytesMut) {
        let (mut client, mut server) = tokio::io::duplex(chunk);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let _ = client.write_all(&bytes).await;
        });
        let mut buffer = BytesMut::new();
        let cluster = ClusterName::new("example.com").unwrap();
        let route = read_route(&mut server, &mut buffer, &cluster, Duration::from_secs(5)).await;
        drop(server);
        writer.await.unwrap();
        (route, buffer)
    }

    #[tokio::test]
    async fn a_hello_is_found_however_it_is_cut_and_nothing_of_it_is_lost() {
        let hello = client_hello("auth.example.com", &[b"h2"]);
        for chunk in [1, 7, 100, 4096] {
            let (route, buffer) = routed(&hello, chunk).await;
            assert_eq!(route, Some(Route::Auth), "chunks of {chunk}");
            assert_eq!(&buffer[..], &hello[..]);
        }
    }

    #[tokio::test]
    async fn garbage_that_looks_like_a_record_is_no_hello() {
        for garbage in [&[22u8, 3, 1, 0, 5, 9, 9, 9, 9, 9][..], &[22, 3, 1, 255, 255, 0, 0, 0]] {
            assert_eq!(routed(garbage, 4096).await.0, None);
        }
    }
}
