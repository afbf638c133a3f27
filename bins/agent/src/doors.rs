//! Ports of this host's own for databases, for clients that come without a proxy.

use std::sync::Arc;
use std::time::Duration;

use access_agent::{Host, Strangers};
use access_core::protocol::Admission;
use access_daemon::Exit;
use access_daemon::config::DbSection;
use access_postgres::{Door, PostgresServer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::databases;

/// The most connections at once through one door.
const MOST: usize = 4096;

/// The most at once through all doors whose clients have shown no certificate yet, and of these from
/// one address.
const STRANGERS: (usize, usize) = (512, 64);

/// How long sessions may go on after the agent was told to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// How long it may take to clean up after those that were cut.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// The ports that databases have here.
#[derive(Default)]
pub(crate) struct Doors(Vec<(TcpListener, Door)>);

impl Doors {
    /// Binds the ports that the configuration names.
    pub(crate) async fn open(
        host: &Host,
        server: &PostgresServer,
        section: &DbSection,
    ) -> Result<Self, Exit> {
        let mut doors = Vec::new();
        for (database, resource) in section.databases.iter().zip(databases::resources(section)?) {
            let Some(wanted) = database.listen_addr else { continue };
            let listener = TcpListener::bind(wanted).await.map_err(|err| {
                Exit::failed(format!(
                    "cannot listen on db_service.databases.listen_addr {wanted}: {err}"
                ))
            })?;
            let membership = host.membership();
            let door = Door::new(server.clone(), resource, membership.key(), membership.trust());
            let addr = listener.local_addr().map_err(Exit::failed)?;
            info!(%addr, database = database.name, "a database has a port of its own here");
            doors.push((listener, door.map_err(Exit::failed)?));
        }
        Ok(Self(doors))
    }

    /// Serves all of them until `stop`, then lets what is open end for a while.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        let mut open = JoinSet::new();
        let strangers = Strangers::new(STRANGERS.0, STRANGERS.1);
        for (listener, door) in self.0 {
            open.spawn(serve(listener, door, Arc::clone(&strangers), stop.clone()));
        }
        while open.join_next().await.is_some() {}
    }
}

async fn serve(
    listener: TcpListener,
    door: Door,
    strangers: Arc<Strangers>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MOST));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => continue,
        };
        match accepted {
            Ok((stream, client)) => {
                // Whoever comes when all places are taken is closed upon.
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let admission = match strangers.admit(Some(client)) {
                    Ok(place) => Admission::holding(place),
                    Err(why) => {
                        debug!(%client, "closed upon: {why}");
                        continue;
                    }
                };
                let door = door.clone();
                open.spawn(async move {
                    let served = async {
                        stream.set_nodelay(true)?;
                        door.serve_admitted(stream, Some(client), admission).await
                    };
                    if let Err(err) = served.await {
                        debug!(%client, "a client of a database left: {err}");
                    }
                    drop(place);
                });
            }
            Err(err) => {
                warn!("a connection could not be accepted: {err}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let ended = async { while open.join_next().await.is_some() {} };
    drop(tokio::time::timeout(DRAIN, ended).await);
    open.shutdown().await;
    drop(tokio::time::timeout(AFTERWARDS, door.drained()).await);
}
