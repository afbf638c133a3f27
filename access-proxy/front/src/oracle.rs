//! What must hold for any bytes that a stranger can send; shared by fuzz targets and tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use access_core::ClusterName;
use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::{Builder, Runtime};

use crate::route::Route;
use crate::{first, hello, proxy_header};

/// Never reached: the bytes are there.
const DEADLINE: Duration = Duration::from_secs(3600);
/// The pieces in which bytes come.
const PIECES: [usize; 3] = [usize::MAX, 7, 1];

/// The header of a load balancer tells the same address however it is cut, and nothing of what
/// follows it is lost.
///
/// # Panics
/// When that does not hold.
pub fn proxy_header(bytes: &[u8]) {
    // Whether a longer one is read depends on how much of it comes at once.
    let bytes = bytes.get(..proxy_header::MAX_HEADER).unwrap_or(bytes);
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 5));
    same(PIECES.map(|piece| {
        let (client, taken, rest) = read(bytes, piece, async |stream, buffer| {
            proxy_header::read(stream, buffer, peer, DEADLINE).await
        });
        let header = taken.saturating_sub(rest.len());
        let header = bytes.get(..header).unwrap_or_default();
        assert_eq!([header, &rest].concat(), bytes.get(..taken).unwrap_or_default());
        // What was read of a broken header is nobody's any more.
        client.map(|client| (client, header.len()))
    }));
}

/// The first bytes and the ClientHello lead the same way however they are cut, and all that was
/// read is handed on.
///
/// # Panics
/// When that does not hold.
pub fn client_hello(bytes: &[u8]) {
    let Ok(cluster) = ClusterName::new("example.com") else { return };
    same(PIECES.map(|piece| {
        let (first, taken, kept) =
            read(bytes, piece, async |stream, buffer| {
                match first::recognise(stream, buffer, &[], DEADLINE).await {
                    first::First::Silence => "silence",
                    first::First::Nothing => "nothing",
                    first::First::Tls => "TLS",
                    first::First::Http => "HTTP",
                    first::First::Prelude(_) => "a prelude",
                }
            });
        assert_eq!(bytes.get(..taken), Some(&kept[..]));
        assert!(taken <= bytes.len());
        first
    }));
    same(PIECES.map(|piece| {
        let (route, taken, kept) = read(bytes, piece, async |stream, buffer| {
            hello::read_route(stream, buffer, &cluster, DEADLINE).await
        });
        assert_eq!(bytes.get(..taken), Some(&kept[..]));
        if let Some(Route::Resource(resource)) = &route {
            assert!(!resource.label.chars().any(char::is_control), "{resource:?}");
        }
        route
    }));
}

fn same<T: PartialEq + std::fmt::Debug, const N: usize>(outcomes: [T; N]) {
    for (outcome, piece) in outcomes.iter().zip(PIECES) {
        assert_eq!(Some(outcome), outcomes.first(), "in pieces of {piece}");
    }
}

/// What `with` makes of bytes that come in pieces, how many it took, and its buffer after it.
fn read<T>(
    bytes: &[u8],
    piece: usize,
    with: impl AsyncFnOnce(&mut Pieces<'_>, &mut BytesMut) -> T,
) -> (T, usize, BytesMut) {
    let mut stream = Pieces { bytes, piece };
    let mut buffer = BytesMut::new();
    let made = RUNTIME.with(|runtime| runtime.block_on(with(&mut stream, &mut buffer)));
    (made, bytes.len() - stream.bytes.len(), buffer)
}

thread_local! {
    /// One for all inputs: to make one takes longer than most of these.
    #[allow(clippy::expect_used, reason = "an oracle may panic")]
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_time().build().expect("a runtime without I/O");
}

/// Bytes that come in pieces, and then the end.
struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let take = self.piece.min(buf.remaining()).min(self.bytes.len());
        let (now, rest) = self.bytes.split_at(take);
        buf.put_slice(now);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}
