//! Where a connection comes from: the other end of it, or, when that is a proxy which says so and
//! proves to be one, the client whose bytes it copies.

use std::io::{self, Cursor};
use std::net::SocketAddr;

use access_core::policy::Context;
use access_core::tls::{
    HEADER_START, HelloDigest, Origin, OriginError, VerifiedOrigin, hello_digest, origin_length,
    starts_origin,
};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, Chain, Join, join};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::error::{Error, Result};
use crate::service::AuthService;

/// A connection, and where it comes from.
pub(super) enum Arrival {
    /// From the other end.
    Direct(TcpStream),
    /// Through a proxy, from this client.
    Led(Led, SocketAddr),
}

/// What follows a header: the ClientHello that was read with it, and the rest.
pub(super) type Led = Join<Chain<Cursor<BytesMut>, OwnedReadHalf>, OwnedWriteHalf>;

/// Reads the header of a connection that has one. What has none is left as it is. The caller sets
/// the deadline.
pub(super) async fn arrive(service: &AuthService, stream: TcpStream) -> Result<Arrival> {
    let refused = |err: io::Error| Error::Unauthenticated(err.to_string());
    let mut first = [0];
    let seen = stream.peek(&mut first).await.map_err(refused)?;
    if seen == 0 || !first.iter().copied().all(starts_origin) {
        return Ok(Arrival::Direct(stream));
    }
    let (mut read, write) = stream.into_split();
    let (origin, hello, buffer) = read_origin(&mut read).await.map_err(refused)?;
    let said = service
        .believe(origin, &hello)
        .map_err(|err| Error::Unauthenticated(format!("a proxy's word is refused: {err}")))?;
    tracing::trace!(client = %said.client, proxy = %said.proxy.name(), "led by a proxy");
    Ok(Arrival::Led(join(Cursor::new(buffer).chain(read), write), said.client))
}

impl AuthService {
    /// Whether a header is a proxy's that may still be believed.
    fn believe(&self, origin: Origin, hello: &HelloDigest) -> Result<VerifiedOrigin, OriginError> {
        let trust = self.inner.live.trust().load();
        let said = origin.verify(&trust, self.now(), hello)?;
        // Whoever locks a stolen proxy out takes its word from it as well.
        self.check_host(&said.proxy, &Context::default())
            .map_err(|_| OriginError::NotAProxy(format!("{} is locked: it", said.proxy.name())))?;
        Ok(said)
    }
}

/// Reads a header and the ClientHello behind it; that, and what came with it, is given back. Both
/// have lengths that are bounded before they are read.
async fn read_origin<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> io::Result<(Origin, HelloDigest, BytesMut)> {
    let invalid = |err: OriginError| io::Error::new(io::ErrorKind::InvalidData, err);
    let mut start = [0; HEADER_START];
    stream.read_exact(&mut start).await?;
    let mut header = vec![0; origin_length(start).map_err(invalid)?];
    let (front, rest) = header.split_at_mut(HEADER_START);
    front.copy_from_slice(&start);
    stream.read_exact(rest).await?;
    let origin = Origin::read(&header).map_err(invalid)?;
    let mut buffer = BytesMut::new();
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(hello) = hello_digest(&buffer).map_err(invalid)? {
            return Ok((origin, hello, buffer));
        }
    }
}
