//! The multiplexers under comparison, each as a source of connected stream pairs.

#![allow(clippy::disallowed_methods, reason = "no policy stands before a bench")]
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use access_tunnel::{Config, Flavour, Handle, OpenHeader, Tunnel};
use bytes::{Buf, Bytes};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

pub type ClientTls = tokio_rustls::client::TlsStream<TcpStream>;
pub type ServerTls = tokio_rustls::server::TlsStream<TcpStream>;

/// Anything that a stream can be used as.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Two ends of one stream, and whatever keeps it alive.
pub struct Pairs {
    pub streams: Vec<(Box<dyn Io>, Box<dyn Io>)>,
    pub _keep: Vec<Handle>,
}

/// One TLS connection over loopback, as the proxy's listener sets it up.
pub struct Tls {
    connector: tokio_rustls::TlsConnector,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl Tls {
    pub fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { connector: Arc::new(client).into(), acceptor: Arc::new(server).into() }
    }

    pub async fn pair(&self) -> (ClientTls, ServerTls) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let (client, (server, _)) = (client.unwrap(), server.unwrap());
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let (client, server) =
            tokio::join!(self.connector.connect(name, client), self.acceptor.accept(server));
        (client.unwrap(), server.unwrap())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tls,
    Ours,
    Yamux,
    H2,
}

impl Peer {
    pub async fn pairs(self, tls: &Tls, n: usize) -> Pairs {
        let (client, server) = tls.pair().await;
        let mut keep = Vec::new();
        let streams = match self {
            Peer::Tls => {
                assert_eq!(n, 1);
                vec![(Box::new(client) as Box<dyn Io>, Box::new(server) as Box<dyn Io>)]
            }
            Peer::Ours => {
                let (handle, streams) = ours(client, server, n).await;
                keep.push(handle);
                streams
            }
            Peer::Yamux => yamux(client, server, n).await,
            Peer::H2 => h2(client, server, n).await,
        };
        Pairs { streams, _keep: keep }
    }
}

type Streams = Vec<(Box<dyn Io>, Box<dyn Io>)>;

async fn ours(client: ClientTls, server: ServerTls, n: usize) -> (Handle, Streams) {
    let (handle, _, driver) = Tunnel::client(client, Config::opener());
    tokio::spawn(driver);
    let (_, mut incoming, driver) = Tunnel::server(server, Config::new());
    tokio::spawn(driver);
    let mut streams: Streams = Vec::new();
    for _ in 0..n {
        let header = OpenHeader::new("node/bench", Flavour::Raw);
        let (ours, theirs) = tokio::join!(handle.open(header), async {
            incoming.next().await.unwrap().accept().unwrap()
        });
        streams.push((Box::new(ours.unwrap()), Box::new(theirs)));
    }
    (handle, streams)
}

async fn yamux(client: ClientTls, server: ServerTls, n: usize) -> Streams {
    use yamux::{Config, Connection, Mode};
    let mut config = Config::default();
    config.set_split_send_size(64 * 1024);
    let mut client = Connection::new(client.compat(), config.clone(), Mode::Client);
    let mut server = Connection::new(server.compat(), config, Mode::Server);
    let mut outbound = Vec::new();
    for _ in 0..n {
        outbound.push(poll_fn(|cx| client.poll_new_outbound(cx)).await.unwrap());
    }
    tokio::spawn(
        async move { while poll_fn(|cx| client.poll_next_inbound(cx)).await.is_some() {} },
    );
    let (tx, mut rx) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(stream)) = poll_fn(|cx| server.poll_next_inbound(cx)).await {
            let _ = tx.send(stream);
        }
    });
    let mut streams: Streams = Vec::new();
    for stream in outbound {
        // A stream is announced by its first byte.
        let mut ours = stream.compat();
        tokio::io::AsyncWriteExt::write_all(&mut ours, &[0]).await.unwrap();
        let mut theirs = rx.recv().await.unwrap().compat();
        tokio::io::AsyncReadExt::read_u8(&mut theirs).await.unwrap();
        streams.push((Box::new(ours), Box::new(theirs)));
    }
    streams
}

async fn h2(client: ClientTls, server: ServerTls, n: usize) -> Streams {
    const WINDOW: u32 = 4 * 1024 * 1024;
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_frame_size(64 * 1024)
        .max_send_buffer_size(256 * 1024);
    let mut server_builder = h2::server::Builder::new();
    server_builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_frame_size(64 * 1024)
        .max_send_buffer_size(256 * 1024);
    let (tx, mut rx) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut server = server_builder.handshake::<_, Bytes>(server).await.unwrap();
        while let Some(Ok((request, mut respond))) = server.accept().await {
            let send = respond.send_response(http::Response::new(()), false).unwrap();
            let _ = tx.send(H2Stream { recv: request.into_body(), send, chunk: Bytes::new() });
        }
    });
    let (mut requests, connection) = builder.handshake::<_, Bytes>(client).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut streams: Streams = Vec::new();
    for _ in 0..n {
        requests = requests.ready().await.unwrap();
        let request = http::Request::post("https://localhost/").body(()).unwrap();
        let (response, send) = requests.send_request(request, false).unwrap();
        let recv = response.await.unwrap().into_body();
        let ours = H2Stream { recv, send, chunk: Bytes::new() };
        streams.push((Box::new(ours), Box::new(rx.recv().await.unwrap())));
    }
    streams
}

/// The usual adapter of an h2 stream to reads and writes.
struct H2Stream {
    recv: h2::RecvStream,
    send: h2::SendStream<Bytes>,
    chunk: Bytes,
}

impl AsyncRead for H2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.chunk.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(e)) => return Poll::Ready(Err(io::Error::other(e))),
                Some(Ok(chunk)) => {
                    self.recv.flow_control().release_capacity(chunk.len()).unwrap();
                    self.chunk = chunk;
                }
            }
        }
        let n = self.chunk.len().min(buf.remaining());
        buf.put_slice(&self.chunk[..n]);
        self.chunk.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H2Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(buf.len());
        let n = loop {
            if self.send.capacity() > 0 {
                break self.send.capacity();
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(n)) if n > 0 => break n,
                Some(Ok(_)) => {}
                Some(Err(e)) => return Poll::Ready(Err(io::Error::other(e))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        };
        let n = n.min(buf.len());
        let data = Bytes::copy_from_slice(&buf[..n]);
        self.send.send_data(data, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send.send_data(Bytes::new(), true).map_err(io::Error::other)?;
        Poll::Ready(Ok(()))
    }
}
