//! A running agent.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access_agent::{Agent, Host};
use access_core::identity::Service;
use access_core::time::Clock;
use access_daemon::config::SshSection;
use access_daemon::{Config, Exit, Readiness, host_options};
use access_host::SystemClock;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::ssh;

/// An agent that has joined.
pub struct AgentDaemon {
    agent: Arc<Agent>,
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
        let section = enabled(config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut options = host_options(config, data_dir)?;
        options.services = [Service::Node].into();
        options.resources = vec![ssh::node(&options.nodename)?];
        let host = Host::open(options, clock).await.map_err(Exit::failed)?;
        let server = ssh::server(config, &host, section)?;
        let document = ssh::document(&host, section);
        let agent = Agent::builder(host)
            .protocol(Arc::new(server))
            .resource(document)
            .build()
            .map_err(Exit::failed)?;
        let host = agent.host().membership().host_id();
        info!(%host, cluster = %agent.host().membership().cluster(), "the agent is up");
        Ok(Self { agent: Arc::new(agent) })
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

    /// Has the node's labels be those of another configuration, at once and in the cluster.
    pub fn relabel(&self) -> impl Fn(&Config) -> Result<(), Exit> + Send + use<> {
        let host = self.agent.host().clone();
        move |config| {
            host.advertise(ssh::document(&host, enabled(config)?));
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
        self.agent.run(stop).await.map_err(Exit::failed)
    }
}

fn enabled(config: &Config) -> Result<&SshSection, Exit> {
    let section = config.ssh_service.as_ref().filter(|section| section.enabled());
    section.ok_or_else(|| {
        Exit::usage("nothing is enabled: an agent needs ssh_service in its configuration")
    })
}

/// Sections of the configuration that are known but not served are errors, never ignored.
fn refuse_what_is_not_served(config: &Config) -> Result<(), Exit> {
    let sections = [
        ("db_service", config.db_service.is_some()),
        ("app_service", config.app_service.is_some()),
        ("kubernetes_service", config.kubernetes_service.is_some()),
        ("windows_desktop_service", config.windows_desktop_service.is_some()),
    ];
    match sections.into_iter().find(|(_, present)| *present) {
        Some((name, _)) => {
            Err(Exit::usage(format!("{name}: this version of the agent serves ssh_service only")))
        }
        None => Ok(()),
    }
}
