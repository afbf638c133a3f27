//! The cluster in a data directory of this machine: through the daemon's local socket when one
//! runs, straight on the store when none does.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access_auth::{AuthService, Options, StoreClock};
use access_backend::{Backend, Sqlite, SqliteOptions};
use access_client::AuthClient;
use access_core::time::Clock;
use access_daemon::{Exit, ExitCode};
use auth_daemon::{DATABASE, SOCKET};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use crate::cluster::clock;
use crate::place::holds_cluster;

/// How long another program may hold the store: a daemon that is about to listen, or another
/// command.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to look again.
const PAUSE: Duration = Duration::from_millis(50);

/// A service that runs in this process for one command.
pub(crate) struct OwnService {
    service: AuthService,
    store: Arc<Sqlite>,
}

/// A client of the cluster in a data directory, and the service when it runs in this process.
pub(crate) async fn open(dir: &Path) -> Result<(AuthClient, Option<OwnService>), Exit> {
    match holds_cluster(dir) {
        Ok(true) => {}
        Ok(false) => {
            return Err(Exit::failed(format!(
                "{} is no data directory of an Auth Service: neither {SOCKET} nor {DATABASE} is \
                 there",
                dir.display()
            )));
        }
        Err(err) => return Err(closed(dir, &err)),
    }
    let (socket, database) = (dir.join(SOCKET), dir.join(DATABASE));
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(&socket).await {
            Ok(_) => return Ok((AuthClient::local_socket(socket), None)),
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
                return Err(closed(dir, &err));
            }
            // Nobody listens: what is there was left by a daemon that was killed.
            Err(_) => {}
        }
        if !database.exists() {
            return Err(Exit::new(
                ExitCode::Unreachable,
                format!(
                    "no Auth Service listens on {}, and there is no {DATABASE} beside it",
                    socket.display()
                ),
            ));
        }
        let mut options = SqliteOptions::new(&database);
        options.clock = Arc::new(StoreClock(clock()));
        match Sqlite::open(options).await {
            Ok(store) => return serve(dir, Arc::new(store), clock()).await,
            Err(access_backend::Error::Busy { .. }) if Instant::now() < deadline => {
                sleep(PAUSE).await;
            }
            Err(access_backend::Error::Busy { .. }) => {
                return Err(Exit::new(
                    ExitCode::Unreachable,
                    format!(
                        "another program holds {}, and nobody answers on {}",
                        database.display(),
                        socket.display()
                    ),
                ));
            }
            Err(err) => return Err(Exit::failed(err)),
        }
    }
}

async fn serve(
    dir: &Path,
    store: Arc<Sqlite>,
    clock: Arc<dyn Clock>,
) -> Result<(AuthClient, Option<OwnService>), Exit> {
    match AuthService::open(Arc::clone(&store), Options::new(dir, clock)).await {
        Ok(service) => {
            let client = AuthClient::over_stream(service.local_pipe());
            Ok((client, Some(OwnService { service, store })))
        }
        Err(err) => {
            // The error that counts is the first.
            let _ = store.close().await;
            Err(Exit::failed(err))
        }
    }
}

impl OwnService {
    /// Ends the service and lets go of the store.
    pub(crate) async fn close(self) -> Result<(), Exit> {
        self.service.close().await;
        drop(self.service);
        self.store.close().await.map_err(Exit::failed)
    }
}

fn closed(dir: &Path, err: &io::Error) -> Exit {
    Exit::new(
        ExitCode::Denied,
        format!("{}: {err}: run this as the user that the Auth Service runs as", dir.display()),
    )
}
