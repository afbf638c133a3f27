//! A running agent.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access_agent::{Agent, Host};
use access_core::identity::Service;
use access_core::time::Clock;
use access_daemon::config::{DbSection, SshSection};
use access_daemon::{Config, Exit, Readiness, host_options};
use access_host::SystemClock;
use access_postgres::Databases;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::doors::Doors;
use crate::dynamic::Dynamic;
use crate::gate::gate;
use crate::health::{Shown, Watch};
use crate::{databases, ssh};

/// An agent that has joined.
pub struct AgentDaemon {
    agent: Arc<Agent>,
    doors: Doors,
    watch: Option<Watch>,
    dynamic: Option<Dynamic>,
}

/// How often it is looked whether the agent can be reached.
const LOOK: Duration = Duration::from_millis(10);

impl AgentDaemon {
    /// Joins, if need be, and registers what the configuration says. The data directory must have
    /// been prepared.
    ///
    /// # Errors
    /// [`Exit`] with what is wrong and what to do.
    pub async fn start(config: &Config, data_dir: &Path) -> Result<Self, Exit> {
        refuse_what_is_not_served(config)?;
        let Enabled { ssh, db } = enabled(config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut options = host_options(config, data_dir)?;
        options.services = BTreeSet::new();
        options.resources = Vec::new();
        if ssh.is_some() {
            options.services.insert(Service::Node);
            options.resources.push(ssh::node(&options.nodename)?);
        }
        if let Some(section) = db {
            options.services.insert(Service::Db);
            options.resources.extend(databases::resources(section)?);
            options.databases.clone_from(&section.resources);
        }
        let host = Host::open(options, clock).await.map_err(Exit::failed)?;
        let served = Databases::default();
        let gate = gate(config, &host, served.clone());
        let mut doors = Doors::default();
        let mut watch = None;
        let mut serving = None;
        let shown = {
            let host = host.clone();
            Shown::new(move |document| host.advertise(document))
        };
        let mut agent = Agent::builder(host.clone());
        if let Some(section) = ssh {
            let server = ssh::server(&host, Arc::clone(&gate), section)?;
            agent = agent.protocol(Arc::new(server)).resource(ssh::document(&host, section));
        }
        if let Some(section) = db {
            let made = databases::server(&host, gate, section, &served, shown.clone()).await?;
            doors = Doors::open(&host, &made.server, section).await?;
            agent = agent.protocol(Arc::new(made.server.clone()));
            for database in &section.databases {
                shown.show(databases::document(&host, database)?);
            }
            watch = Some(Watch {
                shown: shown.clone(),
                databases: made.databases.clone(),
                reach: made.reach.clone(),
                clock: host.membership().clock(),
            });
            serving = Some(made);
        }
        let agent = Arc::new(agent.build().map_err(Exit::failed)?);
        let dynamic = match (serving, db) {
            (Some(serving), Some(section)) if !section.resources.is_empty() => {
                Some(Dynamic::new(Arc::clone(&agent), serving, shown.clone(), section)?)
            }
            _ => None,
        };
        let host = agent.host().membership().host_id();
        info!(%host, cluster = %agent.host().membership().cluster(), "the agent is up");
        Ok(Self { agent, doors, watch, dynamic })
    }

    /// Completes when what it serves can be reached through a proxy.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + use<> {
        let agent = Arc::clone(&self.agent);
        async move {
            agent.host().ready().await;
            while agent.status().ready().is_err() {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Has the node's labels be those of another configuration, at once and in the cluster. What it
    /// says of databases takes a restart, all of it: what is shown of one is what sessions are decided
    /// by.
    pub fn relabel(&self) -> impl Fn(&Config) -> Result<(), Exit> + Send + use<> {
        let host = self.agent.host().clone();
        move |config| {
            if let Some(section) = enabled(config)?.ssh {
                host.advertise(ssh::document(&host, section));
            }
            Ok(())
        }
    }

    /// Keeps `/readyz` true.
    pub fn watch(&self, readiness: Readiness) -> impl Future<Output = ()> + Send + use<> {
        let agent = Arc::clone(&self.agent);
        async move {
            loop {
                match agent.status().ready() {
                    Ok(()) => readiness.ready("agent"),
                    Err(why) => readiness.wait_for("agent", why),
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    /// Serves until `stop`, then drains.
    ///
    /// # Errors
    /// [`Exit`] when the agent can no longer be what it is.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Exit> {
        // An agent can end by itself, and nothing is served without it.
        let over = stop.child_token();
        let doors_closed = CancellationToken::new();
        let agent = async {
            let ended = self.agent.run_beside(stop, doors_closed.cancelled()).await;
            over.cancel();
            ended
        };
        let watch = async {
            if let Some(watch) = self.watch {
                watch.run(over.clone()).await;
            }
        };
        let dynamic = async {
            if let Some(dynamic) = self.dynamic {
                dynamic.run(over.clone()).await;
            }
        };
        let doors = async {
            self.doors.serve(over.clone()).await;
            doors_closed.cancel();
        };
        let (ended, (), (), ()) = tokio::join!(agent, doors, watch, dynamic);
        ended.map_err(Exit::failed)
    }
}

/// The sections that are served, of which there is one at least.
struct Enabled<'a> {
    ssh: Option<&'a SshSection>,
    db: Option<&'a DbSection>,
}

fn enabled(config: &Config) -> Result<Enabled<'_>, Exit> {
    let ssh = config.ssh_service.as_ref().filter(|section| section.enabled());
    let db = config.db_service.as_ref().filter(|section| section.enabled());
    if ssh.is_none() && db.is_none() {
        return Err(Exit::usage(
            "nothing is enabled: an agent needs ssh_service or db_service in its configuration",
        ));
    }
    Ok(Enabled { ssh, db })
}

/// Sections of the configuration that are known but not served are errors, never ignored.
fn refuse_what_is_not_served(config: &Config) -> Result<(), Exit> {
    let sections = [
        ("app_service", config.app_service.is_some()),
        ("kubernetes_service", config.kubernetes_service.is_some()),
        ("windows_desktop_service", config.windows_desktop_service.is_some()),
    ];
    match sections.into_iter().find(|(_, present)| *present) {
        Some((name, _)) => {
            let served = "this version of the agent serves ssh_service and db_service only";
            Err(Exit::usage(format!("{name}: {served}")))
        }
        None => Ok(()),
    }
}
