//! The Auth Service.

use std::net::SocketAddr;
use std::process::ExitCode;

use access_daemon::{Config, DaemonFlags, Exit, Lifecycle};
use auth_daemon::AuthDaemon;
use clap::Parser;

/// The Auth Service: certificate authority, state, audit and the API to all of it.
///
/// Example: auth --config /etc/access/auth.yaml
#[derive(Debug, Parser)]
#[command(name = "auth", version)]
struct Flags {
    #[command(flatten)]
    common: DaemonFlags,
    /// Where to serve the API, 0.0.0.0:3025 for example.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The cluster's name; needed on the very first start.
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<String>,
}

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(err) => return access_daemon::usage(&err),
    };
    access_daemon::run("auth", &flags.common.clone(), |config| async move {
        run(overlay(config, flags)?).await
    })
}

fn overlay(mut config: Config, flags: Flags) -> Result<Config, Exit> {
    if let Some(listen) = flags.listen {
        config.auth_service.listen_addr = Some(listen);
    }
    if let Some(name) = flags.cluster_name {
        config.auth_service.cluster_name = Some(name);
    }
    if !config.auth_service.enabled() {
        return Err(Exit::usage("auth_service.enabled is no: there is nothing to run"));
    }
    Ok(config)
}

async fn run(config: Config) -> Result<(), Exit> {
    let data_dir = config.data_dir();
    access_daemon::prepare_data_dir(&data_dir).map_err(Exit::failed)?;
    let mut lifecycle = Lifecycle::start(&config, &["auth"]).await?;
    let start = AuthDaemon::start(&config, &data_dir);
    let Some(daemon) = lifecycle.started(start).await? else { return Ok(()) };
    let health = watch_health(daemon.service().clone(), lifecycle.readiness());
    lifecycle.run(|stop| daemon.run(stop), health).await
}

/// Keeps `/readyz` true.
async fn watch_health(service: access_auth::AuthService, readiness: access_daemon::Readiness) {
    loop {
        match service.health().await {
            Ok(()) => readiness.ready("auth"),
            Err(err) => readiness.wait_for("auth", err.to_string()),
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
}
