//! The front door as a whole: its parts, its socket, its life.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access_core::ClusterName;
use access_core::audit::AuditSink;
use access_core::identity::SharedTrust;
use access_core::source::Rate;
use access_core::time::Clock;
use access_core::tls::{
    ALPN_H2, ALPN_HTTP1, ALPN_TUNNEL, ClientAuth, SharedKey, TlsError, server_config,
};
use metrics::{counter, gauge};
use rustls::server::ResolvesServerCert;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::limits::{Counter, Limits};
use crate::prelude::Prelude;
use crate::tunnels::Tunnels;
use crate::underway::Underway;
use crate::unserved::Unserved;
use crate::upstream::AuthUpstream;
use crate::web::WebPages;

/// What a front door is put together from.
pub struct FrontParts {
    /// The cluster.
    pub cluster: ClusterName,
    /// The authorities, for agents' certificates.
    pub trust: Arc<SharedTrust>,
    /// The proxy's own host certificate, which agents see. It vouches to Auth for the addresses of
    /// clients, and has to be one for proxies.
    pub host_key: Arc<SharedKey>,
    /// The certificate that browsers and first contacts see.
    pub web_key: Arc<dyn ResolvesServerCert>,
    /// The way to Auth.
    pub auth: AuthUpstream,
    /// The tunnels; shared with whoever else opens streams over them.
    pub tunnels: Arc<Tunnels>,
    /// Protocols that do not start with TLS.
    pub preludes: Vec<Arc<dyn Prelude>>,
    /// The web side.
    pub pages: WebPages,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Settings of a front door.
#[derive(Clone, Debug, Default)]
pub struct FrontOptions {
    /// How much strangers may ask for.
    pub limits: Limits,
    /// Whether every connection starts with a PROXY protocol header. A client's address is
    /// believed from there, so only a load balancer may reach the port then.
    pub proxy_protocol: bool,
}

/// What keeps a front door from opening.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// The TLS configuration is refused.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A front door. It serves while [`Front::serve`] runs.
pub struct Front {
    pub(crate) parts: FrontParts,
    pub(crate) options: FrontOptions,
    pub(crate) counter: Counter,
    pub(crate) auth_rate: Rate,
    pub(crate) tunnel_tls: Arc<rustls::ServerConfig>,
    pub(crate) web_tls: Arc<rustls::ServerConfig>,
    pub(crate) pages: Arc<WebPages>,
    pub(crate) underway: Underway,
    pub(crate) unserved: Unserved,
}

impl Front {
    /// A front door of these parts.
    ///
    /// # Errors
    /// [`FrontError::Tls`].
    pub fn new(parts: FrontParts, options: FrontOptions) -> Result<Self, FrontError> {
        let tunnel_tls = server_config(
            ClientAuth::Required(Arc::clone(&parts.trust)),
            Arc::clone(&parts.host_key) as Arc<dyn ResolvesServerCert>,
            Arc::clone(&parts.clock),
            &[ALPN_TUNNEL],
        )?;
        let web_tls = server_config(
            ClientAuth::None,
            Arc::clone(&parts.web_key),
            Arc::clone(&parts.clock),
            &[ALPN_H2, ALPN_HTTP1],
        )?;
        let (burst, per_second) = options.limits.auth_rate;
        Ok(Self {
            counter: Counter::new(options.limits.clone()),
            auth_rate: Rate::new(burst, per_second),
            tunnel_tls: Arc::new(tunnel_tls),
            web_tls: Arc::new(web_tls),
            pages: Arc::new(parts.pages.clone()),
            underway: Underway::new(),
            unserved: Unserved::new(None),
            parts,
            options,
        })
    }

    /// Has it be written down who asks for what nobody serves, a few times a second for each
    /// source. The log says it in any case.
    #[must_use]
    pub fn audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.unserved = Unserved::new(Some(audit));
        self
    }

    /// Accepts and serves connections until `stop`. Then agents are asked to go elsewhere, what
    /// is open may finish for `drain`, and the rest is cut.
    ///
    /// Streams of tunnels and connections of preludes are open until they end. A connection to
    /// Auth is one for as long as something passes over it: agents keep theirs for ever, and
    /// nobody here can see whether a call is open.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
        drain: Duration,
    ) {
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
                Some(_) = open.join_next() => continue,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &mut open),
                Err(err) => {
                    // Out of descriptors, or the client was gone already: both pass.
                    warn!("a connection could not be accepted: {err}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        self.parts.tunnels.go_away();
        let finish = async {
            while self.parts.tunnels.streams() + self.underway.busy() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(drain, finish).await.is_err() {
            info!("connections that are still open after {} s are cut", drain.as_secs());
        }
        open.shutdown().await;
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, open: &mut JoinSet<()>) {
        match self.counter.admit(peer.ip()) {
            Ok(slot) => {
                gauge!("access_proxy_connections").set(self.counter.open() as f64);
                let front = Arc::clone(self);
                open.spawn(async move {
                    front.serve_connection(stream, peer).await;
                    drop(slot);
                    gauge!("access_proxy_connections").set(front.counter.open() as f64);
                });
            }
            Err(limit) => counter!("access_proxy_refused_total", "limit" => limit).increment(1),
        }
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("options", &self.options).finish_non_exhaustive()
    }
}
