//! One proxy's address, and the tunnel that is held to it.
//!
//! ```text
//!          ┌──────────── pause ◄── failed, lost
//!          ▼                              ▲
//!        dial ──► mutual TLS ──► hello ──► up
//!          ▲                              │ the proxy goes away, or new certificates:
//!          └──────────────────────────────┘ the old tunnel drains beside the new one
//! ```

use std::sync::Arc;
use std::time::Duration;

use access_client::{ClientError, HostPort, TlsDialer, dial_tcp};
use access_core::HostId;
use access_core::identity::Service;
use access_core::tls::{ALPN_TUNNEL, ServerTrust};
use access_tunnel::{CloseReason, Config, Handle, ReadAhead, Tunnel};
use rustls_pki_types::ServerName;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::dispatch::Dispatcher;
use super::proxies::{Claim, Proxies};
use crate::membership::Membership;
use crate::pause::{Pause, jittered};

/// How long a proxy may take from the first packet to its hello.
const UP_WITHIN: Duration = Duration::from_secs(10);
/// How soon an address is tried again that led to a proxy with a tunnel already.
const STAND_BY: Duration = Duration::from_secs(30);
/// Hosts that got new certificates together do not dial together.
const SPREAD: Duration = Duration::from_secs(2);

/// What every link needs.
pub(crate) struct LinkParts {
    pub(crate) membership: Arc<Membership>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) proxies: Proxies,
}

/// A tunnel that stands.
struct Live {
    handle: Handle,
    proxy: HostId,
    _claim: Claim,
}

/// Why no tunnel stands.
enum DialError {
    /// The proxy has one, over another address.
    Held(HostPort),
    Failed(String),
}

impl From<ClientError> for DialError {
    fn from(err: ClientError) -> Self {
        Self::Failed(err.to_string())
    }
}

/// Holds a tunnel to an address until `stop`; then asks the proxy to open no more, and returns.
/// What is open goes on.
pub(crate) async fn hold(parts: Arc<LinkParts>, address: HostPort, stop: CancellationToken) {
    let mut pause = Pause::for_tunnels();
    let mut renewed = parts.membership.credentials();
    let mut current: Option<Live> = None;
    let mut complained = false;
    loop {
        renewed.mark_unchanged();
        let dialled = tokio::select! {
            dialled = dial(&parts, &address) => dialled,
            () = stop.cancelled() => break,
        };
        let wait = match dialled {
            Ok(live) => {
                info!(%address, proxy = %live.proxy, "the tunnel is up");
                pause.reset();
                complained = false;
                if let Some(old) = current.replace(live) {
                    old.handle.go_away();
                }
                None
            }
            Err(DialError::Held(other)) => {
                debug!(%address, "the proxy has a tunnel already, over {other}");
                Some(jittered(STAND_BY))
            }
            Err(DialError::Failed(why)) => {
                if complained {
                    debug!(%address, "no tunnel: {why}");
                } else {
                    warn!(%address, "no tunnel: {why}");
                }
                complained = true;
                Some(pause.after_failure())
            }
        };
        if let Some(wait) = wait {
            tokio::select! {
                () = tokio::time::sleep(wait) => continue,
                () = stop.cancelled() => break,
            }
        }
        let Some(live) = &current else { continue };
        tokio::select! {
            reason = live.handle.closed() => {
                info!(%address, "the tunnel is down: {reason}");
                current = None;
                // A proxy that closes each tunnel at once must not be dialled without a breath.
                let breath = pause.after_failure();
                tokio::select! {
                    () = tokio::time::sleep(breath) => {}
                    () = stop.cancelled() => break,
                }
            }
            () = live.handle.peer_going_away() => {
                info!(%address, "the proxy goes away: looking for another way");
                current = None;
                tokio::select! {
                    () = tokio::time::sleep(pause.after_failure()) => {}
                    () = stop.cancelled() => break,
                }
            }
            Ok(()) = renewed.changed() => {
                debug!(%address, "new certificates: a new tunnel takes over");
                tokio::select! {
                    () = tokio::time::sleep(jittered(SPREAD)) => {}
                    () = stop.cancelled() => break,
                }
            }
            () = stop.cancelled() => break,
        }
    }
    if let Some(live) = current {
        live.handle.go_away();
    }
}

/// Opens a tunnel and has its streams taken.
async fn dial(parts: &Arc<LinkParts>, address: &HostPort) -> Result<Live, DialError> {
    match tokio::time::timeout(UP_WITHIN, dial_slowly(parts, address)).await {
        Ok(dialled) => dialled,
        Err(_) => Err(DialError::Failed(format!("not up within {} s", UP_WITHIN.as_secs()))),
    }
}

async fn dial_slowly(parts: &Arc<LinkParts>, address: &HostPort) -> Result<Live, DialError> {
    let membership = &parts.membership;
    let trust = membership.trust();
    let dialer = TlsDialer::new(
        ServerTrust::HostAuthority(Arc::clone(&trust)),
        Some(membership.key()),
        membership.clock(),
        &[ALPN_TUNNEL],
    )?;
    let name = ServerName::try_from(format!("proxy.{}", membership.cluster()))
        .map_err(|err| DialError::Failed(err.to_string()))?;
    let stream = ReadAhead::new(dial_tcp(address).await?);
    let stream = dialer.connect_over(stream, address, name).await?;
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    let proxy = trust
        .load()
        .verify_tls(chain, membership.clock().now())
        .map_err(|err| DialError::Failed(err.to_string()))?;
    let proxy = match proxy.host() {
        Some((id, services)) if services.contains(&Service::Proxy) => id.clone(),
        _ => return Err(DialError::Failed(format!("{} is no proxy", proxy.name()))),
    };
    let claim = parts.proxies.claim(proxy.clone(), address).map_err(DialError::Held)?;
    let mut config = Config::new();
    config.max_outgoing = 0;
    let (handle, mut incoming, driver) = Tunnel::client(stream, config);
    let (dispatcher, shown) = (Arc::clone(&parts.dispatcher), address.clone());
    tokio::spawn(async move {
        let reason = driver.await;
        if !matches!(reason, CloseReason::Drained | CloseReason::Local(_)) {
            debug!(address = %shown, "a tunnel ended: {reason}");
        }
    });
    tokio::spawn(async move {
        while let Some(pending) = incoming.next().await {
            dispatcher.take(pending);
        }
    });
    // In TLS 1.3 a refused certificate shows only now.
    handle.established().await.map_err(|err| DialError::Failed(err.to_string()))?;
    Ok(Live { handle, proxy, _claim: claim })
}
