//! One connection's way through the front door.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use access_core::Prefixed;
use access_core::identity::{Service, VerifiedIdentity};
use access_core::resource::DnsResource;
use access_core::tls::{Ends, peer_identity, write_origin};
use access_tunnel::ReadAhead;
use bytes::BytesMut;
use metrics::counter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::first::{First, recognise};
use crate::front::{Front, FrontParts};
use crate::hello::{UNRECOGNIZED_NAME, read_route};
use crate::prelude::{ClientStream, Outcome};
use crate::relay::relay;
use crate::route::Route;
use crate::tunnels::new_trace_id;
use crate::{proxy_header, web};

/// How long a client that was refused has to read why, and the most bytes that it may still send.
const LEAVE: Duration = Duration::from_secs(5);
const LEAVE_BYTES: u64 = 256 * 1024;

impl Front {
    /// Serves a connection to its end.
    pub(crate) async fn serve_connection(&self, mut stream: TcpStream, peer: SocketAddr) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let mut buffer = BytesMut::new();
        let mut client = peer;
        if self.options.proxy_protocol {
            let deadline = self.options.limits.handshake;
            match proxy_header::read(&mut stream, &mut buffer, peer, deadline).await {
                Some(told) => client = told,
                None => {
                    debug!(%peer, "refused: no PROXY protocol header");
                    counter!("access_proxy_refused_total", "limit" => "proxy_protocol")
                        .increment(1);
                    return;
                }
            }
        }
        let deadline = self.options.limits.handshake;
        let first = recognise(&mut stream, &mut buffer, &self.parts.preludes, deadline).await;
        match first {
            First::Silence => {
                counter!("access_proxy_routed_total", "to" => "nowhere").increment(1);
            }
            First::Nothing => {
                counter!("access_proxy_routed_total", "to" => "nowhere").increment(1);
                self.unserved.note_unknown(client, self.parts.clock.now()).await;
            }
            First::Http => {
                counter!("access_proxy_routed_total", "to" => "redirect").increment(1);
                web::redirect(Prefixed::new(buffer, stream), deadline).await;
            }
            First::Tls => {
                self.serve_tls(stream, buffer, client).await;
            }
            First::Prelude(prelude) => {
                counter!("access_proxy_routed_total", "to" => prelude.name()).increment(1);
                let passage = self.underway.until_end();
                let outcome = prelude.serve(Prefixed::new(buffer, stream), client).await;
                drop(passage);
                let refused = match outcome {
                    Outcome::Done => None,
                    Outcome::Refused(why) => Some(why),
                    Outcome::Tls(stream) => {
                        let (buffer, stream) = stream.into_parts();
                        let began = self.serve_tls(stream, BytesMut::from(buffer), client).await;
                        (!began).then(|| "TLS was asked for, and not begun".to_owned())
                    }
                };
                if let Some(why) = refused {
                    let now = self.parts.clock.now();
                    self.unserved.note_refused(prelude.name(), &why, client, now).await;
                }
            }
        }
    }

    /// Serves what should be TLS. Says whether it began as that.
    async fn serve_tls(
        &self,
        mut stream: TcpStream,
        mut buffer: BytesMut,
        client: SocketAddr,
    ) -> bool {
        let deadline = self.options.limits.handshake;
        let route = read_route(&mut stream, &mut buffer, &self.parts.cluster, deadline).await;
        let label = match &route {
            None => "nowhere",
            Some(Route::Auth) => "auth",
            Some(Route::Resource(target)) => target.kind.as_str(),
            Some(Route::Tunnel) => "tunnel",
            Some(Route::Peer) => "peer",
            Some(Route::Web) => "web",
        };
        counter!("access_proxy_routed_total", "to" => label).increment(1);
        match route {
            None => return false,
            Some(Route::Auth) => self.lead_to_auth(stream, buffer, client).await,
            Some(Route::Resource(target)) => {
                self.lead_to_resource(stream, buffer, &target, client).await;
            }
            Some(Route::Tunnel) => {
                self.serve_tunnel(Prefixed::new(buffer, stream), client).await;
            }
            // No proxy of this version opens such a link.
            Some(Route::Peer) => refuse_name(stream).await,
            Some(Route::Web) => self.serve_web(Prefixed::new(buffer, stream)).await,
        }
        true
    }

    async fn lead_to_auth(&self, mut stream: TcpStream, buffer: BytesMut, client: SocketAddr) {
        if !self.auth_rate.take(client.ip(), self.parts.clock.now()) {
            counter!("access_proxy_refused_total", "limit" => "auth_rate").increment(1);
            refuse_name(stream).await;
            return;
        }
        let mut first = match self.tell_origin(&stream, &buffer, client) {
            Ok(header) => header,
            Err(err) => {
                // Without it, Auth would take the proxy's own address for the client's.
                warn!("a client cannot be led to auth: {err}");
                refuse_name(stream).await;
                return;
            }
        };
        first.extend_from_slice(&buffer);
        drop(buffer);
        // A drain waits for Auth's first answer as well.
        let asked = self.underway.until_end();
        let auth = match self.parts.auth.connect(&first, &*self.parts.clock).await {
            Ok((_, auth)) => auth,
            Err(err) => {
                warn!("the auth service cannot be reached: {err}");
                refuse_name(stream).await;
                return;
            }
        };
        let (_passage, mut auth) = self.underway.while_busy(auth);
        drop(asked);
        drop(first);
        if let Err(err) = tokio::io::copy_bidirectional(&mut stream, &mut auth).await {
            debug!("a connection to auth ended: {err}");
        }
    }

    /// The header that tells Auth where a client comes from.
    fn tell_origin(
        &self,
        stream: &TcpStream,
        first: &[u8],
        client: SocketAddr,
    ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let FrontParts { host_key, cluster, clock, .. } = &self.parts;
        let ends = Ends { client, proxy: stream.local_addr()? };
        Ok(write_origin(host_key, cluster, ends, clock.now(), first)?)
    }

    async fn lead_to_resource(
        &self,
        stream: TcpStream,
        buffer: BytesMut,
        target: &DnsResource,
        client: SocketAddr,
    ) {
        let (trace_bytes, trace_id) = new_trace_id();
        // The session keeps its number until the end of this function.
        let opened = self.parts.tunnels.open_session(target, client, trace_bytes).await;
        let Some((tunnel, _session)) = opened else {
            self.unserved.note(target, client, self.parts.clock.now()).await;
            refuse_name(stream).await;
            return;
        };
        let (passed, ended, stream) = relay(stream, tunnel, buffer.freeze()).await;
        debug!(
            %client, %trace_id, up = passed.up, down = passed.down,
            "a connection to {}/{} ended: {ended:?}", target.kind, target.label
        );
        counter!("access_proxy_bytes_total", "direction" => "up").increment(passed.up);
        counter!("access_proxy_bytes_total", "direction" => "down").increment(passed.down);
        if ended.is_err() {
            // The agent may have told the client why, by a TLS alert, before it gave up.
            take_leave(stream).await;
        }
    }

    async fn serve_tunnel(&self, stream: ClientStream, client: SocketAddr) {
        let (stream, agent) = match self.accept_agent(stream).await {
            Ok(accepted) => accepted,
            Err(err) => {
                debug!(%client, "refused a tunnel: {err}");
                counter!("access_proxy_refused_total", "limit" => "tunnel").increment(1);
                return;
            }
        };
        self.parts.tunnels.serve(stream, &agent, client, self.parts.clock.as_ref()).await;
    }

    /// The TLS handshake with an agent, and who it is.
    async fn accept_agent(
        &self,
        stream: ClientStream,
    ) -> io::Result<(TlsStream<ReadAhead<ClientStream>>, VerifiedIdentity)> {
        let stream = ReadAhead::new(stream);
        let accept = TlsAcceptor::from(self.tunnel_tls.clone()).accept(stream);
        let accept = accept.into_fallible();
        let stream = match tokio::time::timeout(self.options.limits.handshake, accept).await? {
            Ok(stream) => stream,
            Err((err, stream)) => {
                take_leave(stream).await;
                return Err(err);
            }
        };
        let (_, connection) = stream.get_ref();
        let agent = peer_identity(connection, &self.parts.trust, self.parts.clock.now())
            .map_err(io::Error::other)?
            .ok_or_else(|| io::Error::other("no certificate"))?;
        match agent.host() {
            Some((_, services)) if services.iter().any(|s| *s != Service::Proxy) => {}
            _ => return Err(io::Error::other(format!("{} is no agent", agent.name()))),
        }
        Ok((stream, agent))
    }

    async fn serve_web(&self, stream: ClientStream) {
        let accept = TlsAcceptor::from(self.web_tls.clone()).accept(stream);
        if let Ok(Ok(stream)) = tokio::time::timeout(self.options.limits.handshake, accept).await {
            self.pages.clone().serve(stream).await;
        }
    }
}

/// Tells a TLS client that nobody has that name: absent and unreachable look alike.
async fn refuse_name(mut stream: TcpStream) {
    // A client that is gone needs no answer.
    drop(stream.write_all(&UNRECOGNIZED_NAME).await);
    take_leave(stream).await;
}

/// Ends a connection so that what was said last arrives: to close on bytes that nobody has read
/// would reset it, and the answer would be lost with it.
async fn take_leave<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let leave = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LEAVE_BYTES), &mut tokio::io::sink()).await
    };
    drop(tokio::time::timeout(LEAVE, leave).await);
}
