//! What each command does.

mod audit;
mod backend;
mod create;
mod databases;
mod edit;
mod export;
mod get;
mod invitation;
mod lock;
mod migrate;
mod nodes;
mod recordings;
mod sign;
mod status;
mod tokens;
mod users;

use std::collections::HashMap;

use access_core::Timestamp;
use access_daemon::{Exit, note, print};
use clap::CommandFactory;

use crate::cli::{
    AuditCommand, AuthCommand, BackendCommand, Cli, Command, DbCommand, NodesCommand, Pair,
    RecordingsCommand, TokensCommand, UsersCommand,
};
use crate::cluster::Cluster;
use crate::kinds::Named;

pub(crate) async fn run(cli: Cli) -> Result<(), Exit> {
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "accessctl", &mut script);
        return print(&String::from_utf8_lossy(&script));
    }
    match cli.command {
        Command::Backend(BackendCommand::Migrate(args)) => return migrate::migrate(args).await,
        Command::Backend(BackendCommand::MultiRegion(args)) => {
            return backend::multi_region(&cli.global, args).await;
        }
        _ => {}
    }
    // What can be refused without the cluster is refused before it is looked for.
    let ready = Ready::from(cli.command)?;
    let cluster = Cluster::open(&cli.global).await?;
    let done = ready.run(&cluster).await;
    let closed = cluster.close().await;
    done.and(closed)
}

/// A command of which everything that can be read or checked here has been.
enum Ready {
    Create(Vec<crate::documents::Read>, bool),
    Sign(sign::Order),
    Lock(lock::Order),
    Other(Command),
}

impl Ready {
    fn from(command: Command) -> Result<Self, Exit> {
        Ok(match command {
            Command::Create(args) => Self::Create(create::read(&args)?, args.force),
            Command::Auth(AuthCommand::Sign(args)) => Self::Sign(sign::Order::check(args)?),
            Command::Lock(args) => Self::Lock(lock::Order::check(args)?),
            other => Self::Other(other),
        })
    }

    async fn run(self, cluster: &Cluster) -> Result<(), Exit> {
        match self {
            Self::Create(documents, force) => create::create(cluster, documents, force).await,
            Self::Sign(order) => sign::sign(cluster, order).await,
            Self::Lock(order) => lock::lock(cluster, order).await,
            Self::Other(command) => run_other(cluster, command).await,
        }
    }
}

async fn run_other(cluster: &Cluster, command: Command) -> Result<(), Exit> {
    match command {
        Command::Status { format } => status::status(cluster, format.format).await,
        Command::Tokens(TokensCommand::Add(args)) => tokens::add(cluster, args).await,
        Command::Tokens(TokensCommand::Ls { format }) => tokens::ls(cluster, format.format).await,
        Command::Tokens(TokensCommand::Rm { tokens }) => tokens::rm(cluster, &tokens).await,
        Command::Users(UsersCommand::Add(args)) => users::add(cluster, args).await,
        Command::Users(UsersCommand::Ls { format }) => users::ls(cluster, format.format).await,
        Command::Users(UsersCommand::Update(args)) => users::update(cluster, args).await,
        Command::Users(UsersCommand::Reset { name, ttl, format }) => {
            users::reset(cluster, &name, ttl, format.format).await
        }
        Command::Users(UsersCommand::Rm { names }) => users::rm(cluster, &names).await,
        Command::Get(args) => get::get(cluster, &args).await,
        Command::Edit { what, force } => edit::edit(cluster, &what, force).await,
        Command::Rm { what } => rm(cluster, &what).await,
        Command::Auth(AuthCommand::Export { which }) => export::export(cluster, which).await,
        Command::Nodes(NodesCommand::Ls { labels, format }) => {
            nodes::ls(cluster, &labels, format.format).await
        }
        Command::Db(DbCommand::Ls { labels, format }) => {
            databases::ls(cluster, &labels, format.format).await
        }
        Command::Recordings(RecordingsCommand::Ls { format }) => {
            recordings::ls(cluster, format.format).await
        }
        Command::Recordings(RecordingsCommand::Download { session, out, overwrite }) => {
            recordings::download(cluster, &session, out, overwrite).await
        }
        Command::Audit(AuditCommand::Search(args)) => audit::search(cluster, args).await,
        Command::Backend(BackendCommand::Status { format }) => {
            backend::status(cluster, format.format).await
        }
        // These were taken apart before.
        Command::Backend(_)
        | Command::Create(_)
        | Command::Auth(AuthCommand::Sign(_))
        | Command::Lock(_)
        | Command::Completions { .. } => Ok(()),
    }
}

async fn rm(cluster: &Cluster, what: &[Named]) -> Result<(), Exit> {
    for Named { kind, name } in what {
        cluster.delete(*kind, name).await?;
        note(&format!("{kind} {name} has been removed"));
    }
    Ok(())
}

/// A moment for a table: to the second.
fn moment(moment: Timestamp) -> String {
    Timestamp::from_secs(moment.as_secs()).to_string()
}

/// A moment that may not be, for a table.
fn moment_or_never(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".to_owned(), moment)
}

/// Labels for a table.
fn labels_text(labels: &access_core::resource::Labels) -> String {
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.join(",")
}

/// Labels that are asked for, `NAME=VALUE` each, apart or with commas between them.
fn parse_labels(labels: &[String]) -> Result<HashMap<String, String>, Exit> {
    labels
        .iter()
        .flat_map(|list| list.split(','))
        .filter(|label| !label.trim().is_empty())
        .map(|label| label.parse::<Pair>().map(|pair| (pair.0, pair.1)).map_err(Exit::usage))
        .collect()
}

/// Seconds of a span, for a request; 0 for none. A span below a second is no span.
fn seconds(span: Option<access_daemon::config::Span>) -> Result<u64, Exit> {
    match span.map(|span| span.0.as_secs()) {
        Some(0) => Err(Exit::usage("--ttl: one second is the least")),
        Some(seconds) => Ok(seconds),
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_apart_or_together() {
        let labels = parse_labels(&["a=b,c=d".into(), "e=f=g".into()]).unwrap();
        assert_eq!((labels["c"].as_str(), labels["e"].as_str()), ("d", "f=g"));
        assert!(parse_labels(&["prod".into()]).unwrap_err().to_string().contains("NAME=VALUE"));
    }
}
