//! A connection as tonic takes it: bytes, and who is at the other end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use access_core::reach::{BoxedStream, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::Connected;

use super::tls::Admission;
use crate::caller::Peer;

/// One accepted connection.
pub(crate) struct Connection {
    stream: BoxedStream,
    peer: Peer,
    /// What is given back or told when it ends.
    until_end: UntilEnd,
}

/// What a connection holds until it ends.
#[derive(Default)]
struct UntilEnd {
    /// Its place among those that may be open.
    admission: Option<Admission>,
    /// Tells whoever waits for the end.
    ended: Option<DropGuard>,
}

impl Connection {
    pub(crate) fn new(stream: impl Stream, peer: Peer) -> Self {
        Self { stream: Box::new(stream), peer, until_end: UntilEnd::default() }
    }

    /// Of the administrator of this host.
    pub(crate) fn local(stream: impl Stream) -> Self {
        Self::new(stream, Peer::local())
    }

    /// The same, holding a place until it ends.
    pub(super) fn holding(mut self, admission: Admission) -> Self {
        self.until_end.admission = Some(admission);
        self
    }

    /// The same, cancelling a token when it ends.
    pub(super) fn telling(mut self, ended: CancellationToken) -> Self {
        self.until_end.ended = Some(ended.drop_guard());
        self
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
