//! The cluster in a data directory of this machine: through the daemon's local socket when one
//! runs, straight on the store when none does.

use std::io;
use std::path::Path;
use std::time::Duration;

use access_auth::{AuthService, Storage};
use access_client::AuthClient;
use access_daemon::config::StorageType;
use access_daemon::{Config, Exit, ExitCode};
use auth_daemon::{DATABASE, SOCKET, StoreAt, service_options, unopened};
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
    store: Storage,
}

/// A client of the cluster in a data directory, and the service when it runs in this process.
///
/// The configuration, where one is given, says which store it is; without one it is a file in there.
pub(crate) async fn open(
    dir: &Path,
    config: Option<&Config>,
) -> Result<(AuthClient, Option<OwnService>), Exit> {
    let own = Config::default();
    let config = config.unwrap_or(&own);
    // A database is elsewhere, and its data directory may hold nothing but the key that seals authorities.
    let file = config.access.storage.engine == StorageType::Sqlite;
    match holds_cluster(dir) {
        Ok(true) => {}
        Ok(false) if !file => {}
        Ok(false) => {
            return Err(Exit::failed(format!(
                "{} is no data directory of an Auth Service: neither {SOCKET} nor {DATABASE} is \
                 there. Where its state is in a database, --config FILE says where",
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
        if file && !database.exists() {
            return Err(Exit::new(
                ExitCode::Unreachable,
                format!(
                    "no Auth Service listens on {}, and there is no {DATABASE} beside it. Where its \
                     state is in a database, --config FILE says where",
                    socket.display()
                ),
            ));
        }
        let mut at = StoreAt::of(config, dir, clock())?;
        // What the tables are told to delete, and when, is the daemon's to say.
        if let StoreAt::Sql(options) = &mut at {
            options.event_retention = access_backend_sql::Retention::AsItIs;
            options.conn = options.conn.clone().named("accessctl");
        }
        match at.open().await {
            Ok(store) => return serve(config, dir, store).await,
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
            Err(err) => return Err(unopened(err)),
        }
    }
}

async fn serve(
    config: &Config,
    dir: &Path,
    store: Storage,
) -> Result<(AuthClient, Option<OwnService>), Exit> {
    let mut options = service_options(config, dir, clock())?;
    // That is the daemon's to do.
    options.upkeep = None;
    match AuthService::open(store.clone(), options).await {
        Ok(service) => {
            let client = AuthClient::over_stream(service.local_pipe());
            Ok((client, Some(OwnService { service, store })))
        }
        Err(err) => {
            // The error that counts is the first.
            let _ = store.backend.close().await;
            Err(Exit::failed(err))
        }
    }
}

impl OwnService {
    /// Ends the service and lets go of the store.
    pub(crate) async fn close(self) -> Result<(), Exit> {
        self.service.close().await;
        drop(self.service);
        self.store.backend.close().await.map_err(Exit::failed)
    }
}

fn closed(dir: &Path, err: &io::Error) -> Exit {
    Exit::new(
        ExitCode::Denied,
        format!("{}: {err}: run this as the user that the Auth Service runs as", dir.display()),
    )
}
