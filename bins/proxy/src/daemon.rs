//! A running proxy.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access_agent::{AuthRoute, Membership, SpoolOptions, SpoolSink};
use access_client::{Cache, CacheFeed};
use access_core::gate::{Gate, GateOptions};
use access_core::identity::Service;
use access_core::time::Clock;
use access_daemon::config::ProxyProtocol;
use access_daemon::{Config, Exit, host_options};
use access_host::SystemClock;
use access_proxy::{
    AuthUpstream, Front, FrontOptions, FrontParts, PingInfo, TunnelReach, Tunnels, WebPages,
};
use access_ssh::{HostKeys, JumpHost};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::jump::{Nodes, SshPrelude};
use crate::web_key::web_key;

/// The public port unless the configuration says.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3080);

/// How long connections may finish after the wish to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// A proxy with its port bound.
pub struct ProxyDaemon {
    front: Arc<Front>,
    listener: TcpListener,
    addr: SocketAddr,
    membership: Arc<Membership>,
    host_keys: HostKeys,
    spool: SpoolSink,
    feed: CacheFeed,
    ready: watch::Receiver<bool>,
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
        let listener = TcpListener::bind(wanted).await.map_err(|err| {
            Exit::failed(format!("cannot listen on proxy_service.web_listen_addr {wanted}: {err}"))
        })?;
        let addr = listener.local_addr().map_err(Exit::failed)?;
        let public = public_addrs(config, addr);

        let mut options = host_options(config, data_dir)?;
        let AuthRoute::Direct(auth) = options.route.clone() else {
            return Err(Exit::usage("a proxy needs access.auth_server, HOST:PORT of Auth itself"));
        };
        options.services = [Service::Proxy].into();
        options.public_names = public_names(&public, addr);
        let membership = Membership::open(options, Arc::clone(&clock)).await.map_err(Exit::failed)?;
        let membership = Arc::new(membership);
        let spool = SpoolSink::open(
            data_dir.join("spool"),
            membership.cluster().clone(),
            SpoolOptions::default(),
            Arc::clone(&clock),
        )
        .map_err(Exit::failed)?;

        let cache = Cache::new(membership.trust());
        let feed = CacheFeed::new(
            cache.clone(),
            membership.client(),
            Cache::PROXY_KINDS,
            Arc::clone(&clock),
        );
        let tunnels = Arc::new(Tunnels::new());
        let host_keys = host_keys(&membership)?;
        let gate_options = GateOptions {
            max_staleness: config
                .access
                .max_staleness
                .map_or(GateOptions::default().max_staleness, |span| span.0),
        };
        let gate = Gate::new(
            cache.policy(),
            Arc::new(spool.clone()),
            Arc::clone(&clock),
            gate_options,
        );
        let trust = membership.trust();
        let jump = JumpHost::builder()
            .gate(Arc::new(gate))
            .reach(Arc::new(TunnelReach::new(Arc::clone(&tunnels))))
            .trust(Arc::new(move || trust.load()))
            .audit(Arc::new(spool.clone()))
            .clock(Arc::clone(&clock))
            .host_keys(host_keys.clone())
            .directory(Arc::new(Nodes(cache.directory())))
            .build()
            .map_err(Exit::failed)?;

        let mut ping = PingInfo::new(membership.cluster().as_str(), public.clone());
        let trusted = membership.trust().load();
        let hosts = trusted.of_kind(access_core::identity::AuthorityKind::Host);
        ping.ca_pins =
            hosts.filter_map(|a| a.pins().ok()).flatten().map(|pin| pin.to_string()).collect();
        let parts = FrontParts {
            cluster: membership.cluster().clone(),
            trust: membership.trust(),
            host_key: membership.key(),
            web_key: web_key(&section.https_keypairs, membership.key())?,
            auth: AuthUpstream::new(
                auth.iter().map(|at| (at.host().to_owned(), at.port())).collect(),
            ),
            tunnels,
            preludes: vec![Arc::new(SshPrelude(jump))],
            pages: WebPages::new(&ping).map_err(Exit::failed)?,
            clock,
        };
        let options = FrontOptions {
            proxy_protocol: section.proxy_protocol == ProxyProtocol::On,
            ..FrontOptions::default()
        };
        let front = Arc::new(Front::new(parts, options).map_err(Exit::failed)?);
        info!(%addr, cluster = %membership.cluster(), "the proxy is up");
        let ready = feed.ready();
        Ok(Self { front, listener, addr, membership, host_keys, spool, feed, ready })
    }

    /// Where the public port is.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Completes when the cluster's state is known here.
    pub fn ready(&self) -> impl Future<Output = ()> + use<> {
        let mut ready = self.ready.clone();
        async move {
            // A feed that is gone will never be ready.
            if ready.wait_for(|ready| *ready).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Serves until `stop`, then drains.
    ///
    /// # Errors
    /// [`Exit`] when the proxy can no longer be what it is.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Exit> {
        let Self { front, listener, membership, host_keys, spool, feed, .. } = self;
        let serve = front.serve(listener, stop, DRAIN);
        let renew = async {
            let ended = membership.keep_renewed().await;
            ended.map_err(Exit::failed)
        };
        let follow = follow_renewals(&membership, &host_keys);
        let client = Arc::clone(&membership);
        let deliver = spool.deliver(Arc::new(move || client.client()));
        tokio::select! {
            () = serve => {}
            ended = renew => ended?,
            () = follow => {}
            () = feed.run() => {}
            () = deliver => {}
        }
        spool.sync().await.map_err(Exit::failed)
    }
}

fn host_keys(membership: &Membership) -> Result<HostKeys, Exit> {
    let credentials = membership.credentials();
    let current = Arc::clone(&credentials.borrow());
    HostKeys::new(current.keys.ssh.clone(), current.ssh_certificate.clone()).map_err(Exit::failed)
}

/// Shows every renewed host certificate to SSH clients.
async fn follow_renewals(membership: &Membership, host_keys: &HostKeys) {
    let mut credentials = membership.credentials();
    while credentials.changed().await.is_ok() {
        let current = Arc::clone(&credentials.borrow_and_update());
        let (key, certificate) = (current.keys.ssh.clone(), current.ssh_certificate.clone());
        if let Err(err) = host_keys.replace(key, certificate) {
            warn!("the renewed SSH host certificate cannot be used: {err}");
        }
    }
    std::future::pending::<()>().await;
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
