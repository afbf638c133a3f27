//! The proxy.

use std::net::SocketAddr;
use std::process::ExitCode;

use access_daemon::config::{JoinMethod, JoinParams, OneOrMany};
use access_daemon::{Config, DaemonFlags, Exit, Lifecycle};
use clap::Parser;
use proxy_daemon::ProxyDaemon;

/// The public front door: one port for users, agents and the API.
///
/// Example: proxy --config /etc/access/proxy.yaml
#[derive(Debug, Parser)]
#[command(name = "proxy", version)]
struct Flags {
    #[command(flatten)]
    common: DaemonFlags,
    /// The public port, 0.0.0.0:443 for example.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where clients reach this proxy, HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    public_addr: Option<String>,
    /// The Auth Service, HOST:PORT; of several replicas all, with commas between them or by more
    /// flags.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    auth_server: Vec<String>,
    /// The join token, or better the path of a file that holds it: other users of this machine
    /// can see arguments.
    #[arg(long, value_name = "TOKEN|PATH")]
    token: Option<String>,
    /// The cluster's key, sha256:….
    #[arg(long, value_name = "PIN")]
    ca_pin: Option<String>,
}

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(err) => return access_daemon::usage(&err),
    };
    access_daemon::run("proxy", &flags.common.clone(), |config| async move {
        run(overlay(config, flags)?).await
    })
}

fn overlay(mut config: Config, flags: Flags) -> Result<Config, Exit> {
    if let Some(listen) = flags.listen {
        config.proxy_service.web_listen_addr = Some(listen);
    }
    if let Some(public) = flags.public_addr {
        config.proxy_service.public_addr = Some(OneOrMany::One(public));
    }
    if let Some(auth) = OneOrMany::of_flag(flags.auth_server) {
        config.access.auth_server = Some(auth);
    }
    if let Some(token_name) = flags.token {
        config.access.join_params = Some(JoinParams { method: JoinMethod::Token, token_name });
    }
    if let Some(pin) = flags.ca_pin {
        config.access.ca_pin = Some(OneOrMany::One(pin));
    }
    if !config.proxy_service.enabled() {
        return Err(Exit::usage("proxy_service.enabled is no: there is nothing to run"));
    }
    Ok(config)
}

async fn run(config: Config) -> Result<(), Exit> {
    let data_dir = config.data_dir();
    access_daemon::prepare_data_dir(&data_dir).map_err(Exit::failed)?;
    let mut lifecycle = Lifecycle::start(&config, &["proxy"]).await?;
    let start = ProxyDaemon::start(&config, &data_dir);
    let Some(daemon) = lifecycle.started(start).await? else { return Ok(()) };
    lifecycle.reload().follow("proxy_service.https_keypairs", daemon.follow_web_key());
    let (readiness, host) = (lifecycle.readiness(), daemon.host().clone());
    let aside = async move {
        host.ready().await;
        readiness.ready("proxy");
        std::future::pending().await
    };
    lifecycle.run(|stop| daemon.run(stop), aside).await
}
