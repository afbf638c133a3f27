//! A running proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access_agent::{AuthRoute, Host};
use access_client::Cache;
use access_client::types::{ServerDocument, ServerSpec};
use access_core::gate::{Gate, GateOptions};
use access_core::identity::{AuthorityKind, Service};
use access_core::time::Clock;
use access_daemon::config::ProxyProtocol;
use access_daemon::{Config, Exit, host_options, ssh_host_keys};
use access_host::SystemClock;
use access_proxy::{
    AuthUpstream, Front, FrontOptions, FrontParts, PingInfo, TunnelReach, Tunnels, WebPages,
};
use access_ssh::JumpHost;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::jump::{Nodes, SshPrelude};
use crate::postgres::PostgresPrelude;
use crate::web_key::WebKey;

/// The public port unless the configuration says.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3080);

/// How long connections may finish after the wish to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A proxy with its port bound.
pub struct ProxyDaemon {
    front: Arc<Front>,
    listener: TcpListener,
    addr: SocketAddr,
    host: Host,
    web_key: Arc<WebKey>,
}

impl ProxyDaemon {
    /// Joins, if need be, and binds the port. The data directory must have been prepared.
    ///
    /// # Errors
    /// [`Exit`] with what is wrong and what to do.
    pub async fn start(config: &Config, data_dir: &Path) -> Result<Self, Exit> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let section = &config.proxy_service;
        let wanted = section.web_listen_addr.unwrap_or(LISTEN);
        let cannot = |err| {
            Exit::failed(format!("cannot listen on proxy_service.web_listen_addr {wanted}: {err}"))
        };
        // The port is taken now, for what is wrong with it is best told at once, and opened at the
        // end: until then clients are refused, and go to another proxy, instead of waiting.
        let socket = bind(wanted).map_err(cannot)?;
        let addr = socket.local_addr().map_err(Exit::failed)?;
        let public = public_addrs(config, addr);

        let mut options = host_options(config, data_dir)?;
        let AuthRoute::Direct(auth) = options.route.clone() else {
            return Err(Exit::usage("a proxy needs access.auth_server, HOST:PORT of Auth itself"));
        };
        options.services = [Service::Proxy].into();
        options.public_names = public_names(&public, addr);
        options.follow = Cache::PROXY_KINDS;
        let host = Host::open(options, Arc::clone(&clock)).await.map_err(Exit::failed)?;
        let membership = Arc::clone(host.membership());
        let server = ServerSpec {
            service: Service::Proxy,
            host: membership.host_id().clone(),
            hostname: membership.nodename().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public_addrs: public.clone(),
            peer_addr: None,
            role_schema: access_core::role::ROLE_SCHEMA,
        };
        host.advertise(ServerDocument::new(membership.host_id().as_str(), server));

        let web_key = Arc::new(WebKey::new(&section.https_keypairs, membership.key())?);
        let tunnels = Arc::new(Tunnels::new());
        let auth = auth.iter().map(|at| (at.host().to_owned(), at.port())).collect();
        let parts = FrontParts {
            cluster: membership.cluster().clone(),
            trust: membership.trust(),
            host_key: membership.key(),
            web_key: Arc::clone(&web_key) as _,
            auth: AuthUpstream::new(auth),
            tunnels: Arc::clone(&tunnels),
            preludes: vec![
                Arc::new(PostgresPrelude(Arc::clone(&tunnels))),
                Arc::new(SshPrelude(jump_host(config, &host, tunnels)?)),
            ],
            pages: WebPages::new(&ping(&host, public)).map_err(Exit::failed)?,
            clock,
        };
        let options = FrontOptions {
            proxy_protocol: section.proxy_protocol == ProxyProtocol::On,
            ..FrontOptions::default()
        };
        let front = Front::new(parts, options).map_err(Exit::failed)?.audit(host.audit());
        let listener = socket.listen(BACKLOG).map_err(cannot)?;
        info!(%addr, cluster = %membership.cluster(), "the proxy is up");
        Ok(Self { front: Arc::new(front), listener, addr, host, web_key })
    }

    /// Has the web's certificates be those of another configuration.
    pub fn follow_web_key(&self) -> impl FnMut(&Config) -> Result<(), String> + Send + use<> {
        follow_web_key(&self.web_key)
    }

    /// Where the public port is.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The host that it is.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Serves until `stop`, then drains.
    ///
    /// # Errors
    /// [`Exit`] when the proxy can no longer be what it is.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Exit> {
        let Self { front, listener, host, .. } = self;
        let host_stop = CancellationToken::new();
        let host = host.run(host_stop.clone());
        let serve = async {
            front.serve(listener, stop, DRAIN).await;
            // What the last connections had to tell still goes out.
            host_stop.cancel();
        };
        tokio::pin!(host, serve);
        tokio::select! {
            ended = &mut host => ended.map_err(Exit::failed),
            () = &mut serve => host.await.map_err(Exit::failed),
        }
    }
}

fn bind(wanted: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if wanted.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of the proxy that ran before may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(wanted)?;
    Ok(socket)
}

/// The SSH jump host, behind a gate of its own.
fn jump_host(config: &Config, host: &Host, tunnels: Arc<Tunnels>) -> Result<JumpHost, Exit> {
    let clock = host.membership().clock();
    let mut options = GateOptions::default();
    if let Some(span) = config.access.max_staleness {
        options.max_staleness = span.0;
    }
    let gate = Gate::new(host.policy(), host.audit(), Arc::clone(&clock), options);
    let trust = host.membership().trust();
    JumpHost::builder()
        .gate(Arc::new(gate))
        .reach(Arc::new(TunnelReach::new(tunnels)))
        .trust(Arc::new(move || trust.load()))
        .audit(host.audit())
        .clock(clock)
        .host_keys(ssh_host_keys(host.membership())?)
        .directory(Arc::new(Nodes(host.cache().directory())))
        .build()
        .map_err(Exit::failed)
}

pub(crate) fn follow_web_key(
    web_key: &Arc<WebKey>,
) -> impl FnMut(&Config) -> Result<(), String> + Send + use<> {
    let web_key = Arc::clone(web_key);
    move |config| {
        let replaced = web_key.replace(&config.proxy_service.https_keypairs);
        if replaced.map_err(|exit| exit.to_string())? {
            info!("the web is shown the new certificates");
        }
        Ok(())
    }
}

fn ping(host: &Host, public: Vec<String>) -> PingInfo {
    let mut ping = PingInfo::new(host.membership().cluster().as_str(), public);
    let trust = host.membership().trust().load();
    let pins = trust.of_kind(AuthorityKind::Host).filter_map(|authority| authority.pins().ok());
    ping.ca_pins = pins.flatten().map(|pin| pin.to_string()).collect();
    ping
}

/// Where clients reach this proxy: as configured, or as it listens.
fn public_addrs(config: &Config, addr: SocketAddr) -> Vec<String> {
    match &config.proxy_service.public_addr {
        Some(public) => public.as_slice().to_vec(),
        None if addr.ip().is_unspecified() => Vec::new(),
        None => vec![addr.to_string()],
    }
}

/// Hosts of the addresses, for the certificate.
fn public_names(public: &[String], addr: SocketAddr) -> Vec<String> {
    let mut names: Vec<String> = public
        .iter()
        .filter_map(|text| access_client::HostPort::parse(text, 443).ok())
        .map(|at| at.host().to_owned())
        .collect();
    if addr.ip().is_loopback() {
        names.push("localhost".into());
    }
    if !addr.ip().is_unspecified() {
        names.push(addr.ip().to_string());
    }
    names.sort();
    names.dedup();
    names
}
