//! The agent.

use std::process::ExitCode;

use access_daemon::config::{JoinMethod, JoinParams, OneOrMany};
use access_daemon::{Config, DaemonFlags, Exit, Lifecycle};
use agent_daemon::AgentDaemon;
use clap::Parser;

/// Joins a cluster, dials out, and serves this host by SSH.
///
/// Example: agent --config /etc/access/agent.yaml
#[derive(Clone, Debug, Parser)]
#[command(name = "agent", version)]
struct Flags {
    #[command(flatten)]
    common: DaemonFlags,
    /// This host's name in the cluster.
    #[arg(long, value_name = "NAME")]
    nodename: Option<String>,
    /// The cluster's proxy, HOST:PORT; several with commas between them or by more flags.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    proxy: Vec<String>,
    /// The Auth Service itself instead, HOST:PORT; of several replicas all.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', conflicts_with = "proxy")]
    auth_server: Vec<String>,
    /// The join token, or better the path of a file that holds it: other users of this machine
    /// can see arguments.
    #[arg(long, value_name = "TOKEN|PATH")]
    token: Option<String>,
    /// The cluster's key, sha256:….
    #[arg(long, value_name = "PIN")]
    ca_pin: Option<String>,
    /// A label for role matchers, NAME=VALUE.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
}

fn main() -> ExitCode {
    if access_host::sftp::run_if_invoked() {
        return ExitCode::SUCCESS;
    }
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(err) => return access_daemon::usage(&err),
    };
    access_daemon::run("agent", &flags.common.clone(), |config| run(config, flags))
}

fn overlay(mut config: Config, flags: &Flags) -> Result<Config, Exit> {
    if let Some(name) = &flags.nodename {
        config.access.nodename = Some(name.clone());
    }
    // A flag takes the place of either way in the file.
    if let Some(proxy) = OneOrMany::of_flag(flags.proxy.clone()) {
        (config.access.proxy_server, config.access.auth_server) = (Some(proxy), None);
    }
    if let Some(auth) = OneOrMany::of_flag(flags.auth_server.clone()) {
        (config.access.auth_server, config.access.proxy_server) = (Some(auth), None);
    }
    if let Some(token_name) = flags.token.clone() {
        config.access.join_params = Some(JoinParams { method: JoinMethod::Token, token_name });
    }
    if let Some(pin) = &flags.ca_pin {
        config.access.ca_pin = Some(OneOrMany::One(pin.clone()));
    }
    if flags.common.config.is_none() {
        config.ssh_service.get_or_insert_default();
    }
    for label in &flags.labels {
        let (name, value) = label
            .split_once('=')
            .ok_or_else(|| Exit::usage(format!("{label:?} is no label: write NAME=VALUE")))?;
        let section = config.ssh_service.get_or_insert_default();
        section.labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(config)
}

async fn run(config: Config, flags: Flags) -> Result<(), Exit> {
    let config = overlay(config, &flags)?;
    let data_dir = config.data_dir();
    access_daemon::prepare_data_dir(&data_dir).map_err(Exit::failed)?;
    let mut lifecycle = Lifecycle::start(&config, &["agent"]).await?;
    let start = AgentDaemon::start(&config, &data_dir);
    let Some(daemon) = lifecycle.started(start).await? else { return Ok(()) };
    let relabel = daemon.relabel();
    lifecycle.reload().follow("ssh_service.labels", move |config| {
        let config = overlay(config.clone(), &flags).map_err(|exit| exit.to_string())?;
        relabel(&config).map_err(|exit| exit.to_string())
    });
    let watch = daemon.watch(lifecycle.readiness());
    lifecycle.run(|stop| daemon.run(stop), watch).await
}
