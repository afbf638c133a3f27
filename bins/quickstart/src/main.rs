//! A whole cluster in one process: Auth, proxy, and this host as an SSH node.
//!
//! It also carries `access` and `accessctl`, by the name that it is called by.

mod cluster;
mod first_user;
mod next_steps;
mod tools;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use access_daemon::config::{Log, Severity};
use access_daemon::{Config, Exit, Signals};
use clap::{Parser, ValueEnum};

/// Bring up a cluster on this machine, with nothing else installed.
///
/// Auth, proxy and agent run in this process; state is kept in the data directory. It prints the
/// commands to run next, and stays in the foreground until Ctrl-C.
///
/// Example: quickstart --data-dir ./access-data
#[derive(Debug, Parser)]
#[command(name = "quickstart", version)]
pub(crate) struct Flags {
    /// Where state is kept.
    #[arg(long, value_name = "DIR", default_value = "access-data")]
    pub(crate) data_dir: PathBuf,
    /// The public port of the proxy; port 0 takes any that is free.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3080")]
    pub(crate) listen: SocketAddr,
    /// What to print when the cluster is ready.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) print: Print,
    /// The cluster's name; fixed by the first start.
    #[arg(long, value_name = "NAME", default_value = "access.internal")]
    pub(crate) cluster_name: String,
    /// The first user's name; yours on this machine by default.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Log what goes on.
    #[arg(long)]
    pub(crate) debug: bool,
}

/// What to print when the cluster is ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Print {
    /// The commands to run next.
    #[default]
    Text,
    /// One line of JSON.
    Json,
}

fn main() -> ExitCode {
    if access_host::sftp::run_if_invoked() {
        return ExitCode::SUCCESS;
    }
    match tools::called_as().as_deref() {
        Some("access") => access_cli::main(std::env::args_os()),
        Some("accessctl") => accessctl_cli::main(std::env::args_os()),
        _ => quickstart(),
    }
}

fn quickstart() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(err) => return access_daemon::usage(&err),
    };
    let severity = if flags.debug { Severity::Debug } else { Severity::Warn };
    access_daemon::init_logging(&Log { severity: Some(severity), ..Log::default() });
    access_daemon::raise_open_files();
    // Two workers are plenty for one machine's own cluster, and cost less memory than one a core.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(err) => return Exit::failed(err).report("quickstart"),
    };
    access_daemon::run_on(runtime, "quickstart", async move { run(&flags).await })
}

async fn run(flags: &Flags) -> Result<(), Exit> {
    let mut signals = Signals::listen().map_err(Exit::failed)?;
    access_daemon::prepare_data_dir(&flags.data_dir).map_err(Exit::failed)?;
    let cluster = tokio::select! {
        cluster = cluster::Cluster::start(flags, Config::default()) => cluster?,
        () = signals.stopped(|| {}) => return Ok(()),
    };
    let tools = tools::lay_out(&flags.data_dir)?;
    next_steps::print(flags, &cluster, &tools)?;
    cluster.run(signals).await
}
