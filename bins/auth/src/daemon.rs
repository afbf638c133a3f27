//! A running Auth Service: its sockets and its end.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use access_auth::AuthService;
use access_daemon::{Config, Exit};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::storage::{SOCKET, open_service};

/// Where the API is served unless the configuration says.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 3025);

/// An Auth Service with its sockets bound.
pub struct AuthDaemon {
    service: AuthService,
    listener: TcpListener,
    local: UnixListener,
    socket: PathBuf,
    addr: SocketAddr,
}

impl AuthDaemon {
    /// Opens the store and binds the sockets. The data directory must have been prepared.
    ///
    /// # Errors
    /// [`Exit`] with what is wrong and what to do.
    pub async fn start(config: &Config, data_dir: &Path) -> Result<Self, Exit> {
        // The store first: its lock tells whether another daemon runs here.
        let service = open_service(config, data_dir).await?;
        let wanted = config.auth_service.listen_addr.unwrap_or(LISTEN);
        let listener = TcpListener::bind(wanted).await.map_err(|err| {
            Exit::failed(format!("cannot listen on auth_service.listen_addr {wanted}: {err}"))
        })?;
        let addr = listener.local_addr().map_err(Exit::failed)?;
        let socket = data_dir.join(SOCKET);
        let local = bind_local(&socket)?;
        info!(cluster = %service.cluster_name(), %addr, new = service.is_new(), "auth is up");
        Ok(Self { service, listener, local, socket, addr })
    }

    /// The service.
    pub fn service(&self) -> &AuthService {
        &self.service
    }

    /// Where the API is served.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop`, then finishes the calls that are open and closes the store.
    ///
    /// # Errors
    /// [`Exit`] when a socket cannot be served.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Exit> {
        let Self { service, listener, local, socket, .. } = self;
        let (api, local, ()) = tokio::join!(
            service.serve_tls(listener, stop.clone().cancelled_owned()),
            service.serve_unix(local, stop.clone().cancelled_owned()),
            async {
                stop.cancelled().await;
                service.end_watches();
            },
        );
        // A leftover would only make the next start remove it.
        let _ = std::fs::remove_file(socket);
        service.close().await;
        api.and(local).map_err(Exit::failed)
    }
}

/// Binds the local socket for its owner alone. What is left of a daemon that was killed is
/// removed: the store's lock has shown that none runs.
fn bind_local(path: &Path) -> Result<UnixListener, Exit> {
    let error = |err| Exit::failed(format!("cannot listen on {}: {err}", path.display()));
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(error(err)),
        _ => {}
    }
    // The directory is its owner's alone already; the mode is for those who open it up later.
    let listener = UnixListener::bind(path).map_err(error)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
    Ok(listener)
}
