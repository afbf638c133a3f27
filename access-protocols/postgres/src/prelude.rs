//! A client's first words, before TLS: for whoever accepts connections, be it a proxy or an agent
//! that listens itself.
//!
//! ```text
//!  SSLRequest ─► 'S' ─► TLS       TLS at once ─► TLS       CancelRequest ─► handed over
//!  GSSENCRequest ─► 'N' ─► again  anything else ─► an ErrorResponse, and the end
//! ```

use std::io;
use std::time::Duration;

pub use access_core::Prefixed;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::wire::{self, CancelRequest, Failure, First, Startup, sqlstate};

/// The content type of a TLS handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// How long a client that was refused has to read why, and the most bytes that it may still send.
const LEAVE: Duration = Duration::from_secs(2);
const LEAVE_BYTES: u64 = 256 * 1024;

/// Whether first bytes are a PostgreSQL client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// They are.
    Yes,
    /// They are not.
    No,
    /// They may be; more are needed, 8 at most.
    More,
}

/// Whether first bytes are a PostgreSQL client's. TLS is not, although a client may begin with it.
///
/// ```
/// use access_postgres::prelude::{Recognised, recognise};
/// assert_eq!(recognise(&[0, 0, 0, 8, 4, 210, 22, 47]), Recognised::Yes);
/// assert_eq!(recognise(&[0, 0]), Recognised::More);
/// assert_eq!(recognise(b"SSH-2.0-"), Recognised::No);
/// ```
pub fn recognise(first: &[u8]) -> Recognised {
    // A length that is far too much is to be told: nobody else begins so.
    if let Some(length @ [0, ..]) = first.first_chunk::<4>()
        && u32::from_be_bytes(*length) as usize > wire::MAX_STARTUP
    {
        return Recognised::Yes;
    }
    // So is a message before its time: its kind, then a length.
    if let [kind, length @ ..] = first
        && kind.is_ascii_alphabetic()
        && length.iter().take(2).all(|byte| *byte == 0)
    {
        return if length.len() < 2 { Recognised::More } else { Recognised::Yes };
    }
    // A length, then a code or version 3.
    let plausible = |at: usize, byte: u8| match at {
        0 => byte == 0,
        4 => byte == 0 || byte == 4,
        5 => byte == 3 || byte == 210,
        _ => true,
    };
    if !first.iter().take(8).enumerate().all(|(at, byte)| plausible(at, *byte)) {
        return Recognised::No;
    }
    if first.len() < 8 { Recognised::More } else { Recognised::Yes }
}

/// What comes after a client's first words.
#[derive(Debug)]
pub enum Opened<S> {
    /// TLS, whose first bytes are in the stream.
    Tls(Prefixed<S>),
    /// A wish to have a query cancelled. No answer is expected.
    Cancel(CancelRequest),
    /// Nothing. The client was told this.
    Refused(Failure),
}

/// Speaks with a client until it begins with TLS, or wants a query cancelled.
///
/// No byte is read past what is answered here, so that nothing which was sent in clear is ever
/// taken for what comes within TLS. Dropping the future drops the connection.
///
/// # Errors
/// Those of the stream; [`io::ErrorKind::TimedOut`] past the deadline.
pub async fn open<S>(stream: S, deadline: Duration) -> io::Result<Opened<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match tokio::time::timeout(deadline, talk(stream)).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client says nothing")),
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<Opened<S>> {
    let mut refused_gss = false;
    loop {
        let begin = stream.read_u8().await?;
        if begin == TLS_HANDSHAKE {
            return Ok(Opened::Tls(Prefixed::new(Bytes::copy_from_slice(&[begin]), stream)));
        }
        let failure = match packet(&mut stream, begin).await? {
            Ok(First::Ssl) => {
                stream.write_all(b"S").await?;
                stream.flush().await?;
                return Ok(Opened::Tls(Prefixed::new(Bytes::new(), stream)));
            }
            Ok(First::GssEnc) if !refused_gss => {
                refused_gss = true;
                stream.write_all(b"N").await?;
                stream.flush().await?;
                continue;
            }
            Ok(First::Cancel(request)) => return Ok(Opened::Cancel(request)),
            Ok(First::GssEnc) => Failure::fatal(
                sqlstate::PROTOCOL_VIOLATION,
                "GSSAPI encryption is not supported here",
            ),
            Ok(First::Startup(_)) => {
                Failure::fatal(sqlstate::INVALID_AUTHORIZATION, "TLS is required here").hint(
                    "connect with sslmode=verify-full and a client certificate: access db login",
                )
            }
            Err(err) => Failure::fatal(sqlstate::PROTOCOL_VIOLATION, err.to_string()),
        };
        stream.write_all(&wire::encode::error_response(&failure)).await?;
        drop(tokio::time::timeout(LEAVE, take_leave(&mut stream)).await);
        return Ok(Opened::Refused(failure));
    }
}

/// Ends a connection so that what was said last arrives: to close on bytes that nobody has read
/// would reset it, and that would be lost with it.
pub(crate) async fn take_leave<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LEAVE_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

/// What a client wants of a connection on which it needs no encryption.
#[derive(Debug)]
pub enum Wish {
    /// A session.
    Session {
        /// What it asks for.
        startup: Startup,
        /// The packet in which it does.
        packet: Bytes,
    },
    /// That a query be cancelled. No answer is expected.
    Cancel(CancelRequest),
}

/// Reads what a client wants where TLS has ended already, or is not wanted: requests for
/// encryption are declined. What it sends after its packet stays in the buffer, which holds no
/// memory before something comes. There is no deadline here.
///
/// Within, the [`Failure`] for a client that sends what is no packet, or asks for encryption more
/// often than any does.
///
/// # Errors
/// Those of the stream; [`io::ErrorKind::UnexpectedEof`] when the client leaves.
pub async fn wish<S>(stream: &mut S, buf: &mut BytesMut) -> io::Result<Result<Wish, Failure>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut declined = 0;
    loop {
        match wire::first(buf) {
            Ok(Some((first, used))) => {
                let packet = buf.split_to(used).freeze();
                match first {
                    First::Startup(startup) => return Ok(Ok(Wish::Session { startup, packet })),
                    First::Cancel(request) => return Ok(Ok(Wish::Cancel(request))),
                    First::Ssl | First::GssEnc if declined < 2 && buf.is_empty() => {
                        declined += 1;
                        stream.write_all(b"N").await?;
                        stream.flush().await?;
                    }
                    First::Ssl | First::GssEnc => {
                        let text = "an encryption request that cannot be there";
                        return Ok(Err(Failure::fatal(sqlstate::PROTOCOL_VIOLATION, text)));
                    }
                }
                continue;
            }
            Ok(None) => {}
            Err(err) => {
                let code = match err {
                    wire::WireError::Version(..) => sqlstate::FEATURE_NOT_SUPPORTED,
                    _ => sqlstate::PROTOCOL_VIOLATION,
                };
                return Ok(Err(Failure::fatal(code, err.to_string())));
            }
        }
        if buf.capacity() == 0 {
            buf.reserve(1024);
        }
        if stream.read_buf(buf).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads one packet, and not a byte more.
async fn packet<S: AsyncRead + Unpin>(
    stream: &mut S,
    begin: u8,
) -> io::Result<Result<First, wire::WireError>> {
    let mut bytes = BytesMut::from(&[begin][..]);
    loop {
        match wire::first(&bytes) {
            Ok(Some((first, _))) => return Ok(Ok(first)),
            Err(err) => return Ok(Err(err)),
            Ok(None) => {}
        }
        let missing = match bytes.first_chunk::<4>() {
            None => 4 - bytes.len(),
            Some(length) => (u32::from_be_bytes(*length) as usize).saturating_sub(bytes.len()),
        };
        let mut more = vec![0; missing.min(wire::MAX_STARTUP)];
        stream.read_exact(&mut more).await?;
        bytes.extend_from_slice(&more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn gss_is_declined_and_tls_taken_byte_by_byte() {
        let (mut client, server) = tokio::io::duplex(1);
        let opened = tokio::spawn(open(server, PATIENCE));
        let mut answer = [0];
        client.write_all(&[0, 0, 0, 8, 4, 210, 22, 48]).await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"N");
        client.write_all(&wire::encode::ssl_request()).await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"S");
        let Opened::Tls(stream) = opened.await.unwrap().unwrap() else { panic!("no TLS") };
        assert!(stream.into_parts().0.is_empty(), "nothing was read past the request");
    }

    #[tokio::test]
    async fn tls_at_once_keeps_its_first_byte() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(&[22, 3, 1]).await.unwrap();
        let Opened::Tls(mut stream) = open(server, PATIENCE).await.unwrap() else {
            panic!("no TLS")
        };
        let mut bytes = [0; 3];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, [22, 3, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_is_handed_over_and_clear_text_refused() {
        let (mut client, server) = tokio::io::duplex(1024);
        let request = CancelRequest::new(7, [1, 2, 3, 4]);
        client.write_all(&request.encode()).await.unwrap();
        let Opened::Cancel(got) = open(server, PATIENCE).await.unwrap() else {
            panic!("no cancel")
        };
        assert_eq!(got, request);

        for bytes in
            [wire::encode::startup(&[("user".into(), "u".into())]).to_vec(), vec![0, 1, 134, 160]]
        {
            let (mut client, server) = tokio::io::duplex(1024);
            client.write_all(&bytes).await.unwrap();
            let Opened::Refused(failure) = open(server, PATIENCE).await.unwrap() else {
                panic!("not refused")
            };
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, wire::encode::error_response(&failure));
        }
    }

    #[tokio::test]
    async fn a_wish_is_read_past_two_requests_for_encryption() {
        let startup = wire::encode::startup(&[("user".into(), "alice".into())]);
        let asked = [
            vec![0, 0, 0, 8, 4, 210, 22, 48],
            wire::encode::ssl_request().to_vec(),
            wire::encode::ssl_request().to_vec(),
        ];
        for asks in 0..=3 {
            let (mut client, mut here) = tokio::io::duplex(64);
            let told = async {
                let mut no = [0];
                for (at, request) in asked.iter().take(asks).enumerate() {
                    client.write_all(request).await.unwrap();
                    if at < 2 {
                        client.read_exact(&mut no).await.unwrap();
                        assert_eq!(&no, b"N");
                    }
                }
                client.write_all(&startup[..3]).await.unwrap();
                tokio::task::yield_now().await;
                client.write_all(&[&startup[3..], b"more"].concat()).await.unwrap();
            };
            let mut buf = BytesMut::new();
            let (wished, ()) = tokio::join!(wish(&mut here, &mut buf), told);
            match wished.unwrap() {
                Ok(Wish::Session { packet, .. }) if asks < 3 => {
                    assert_eq!((&packet, buf.is_empty()), (&startup, false));
                }
                Err(failure) if asks == 3 => assert_eq!(failure.code, "08P01"),
                other => panic!("{asks}: {other:?}"),
            }
        }
        // A request with something behind it would have the rest taken for what comes later.
        let (mut client, mut here) = tokio::io::duplex(64);
        client.write_all(&[&asked[1][..], &startup].concat()).await.unwrap();
        assert!(wish(&mut here, &mut BytesMut::new()).await.unwrap().is_err());
        drop(client);
        let gone = wish(&mut here, &mut BytesMut::new()).await.unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_cut() {
        let (_client, server) = tokio::io::duplex(64);
        let err = open(server, PATIENCE).await.unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn other_protocols_are_not_taken() {
        assert_eq!(recognise(&[22, 3, 1]), Recognised::No);
        assert_eq!(recognise(b"GET / HTTP/1.1"), Recognised::No);
        assert_eq!(recognise(&[0, 0, 0, 8, 9]), Recognised::No);
        assert_eq!(recognise(&[0, 0, 0, 80, 0, 3, 0, 0, b'u']), Recognised::Yes);
        // Far too long.
        assert_eq!(recognise(&[0, 1, 144]), Recognised::More);
        assert_eq!(recognise(&[0, 1, 144, 0]), Recognised::Yes);
        // Before its time.
        assert_eq!(recognise(b"Q\0"), Recognised::More);
        assert_eq!(recognise(b"Q\0\0\0\x0dselect 1\0"), Recognised::Yes);
        assert_eq!(recognise(b"Q\0\x01"), Recognised::No);
        assert_eq!(recognise(b"SSH"), Recognised::No);
    }
}
