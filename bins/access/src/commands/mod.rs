//! What each command does.

mod db;
mod invite;
mod login;
mod ls;
mod play;
mod proxy;
mod run_ssh;
mod status;

use std::process::ExitCode;

use access_daemon::{Exit, print};
use clap::CommandFactory;

use crate::cli::{Cli, Command, InviteCommand, ProxyCommand};
use crate::context::Session;

pub(crate) async fn run(cli: Cli) -> Result<ExitCode, Exit> {
    let global = cli.global;
    match cli.command {
        Command::Login { trust, ttl } => login::login(&global, &trust, ttl).await?,
        Command::Invite(InviteCommand::Accept { url }) => invite::accept(&global, &url).await?,
        Command::Logout => login::logout(&global).await?,
        Command::Status { format } => status::status(&global, format)?,
        Command::Ls { labels, format } => ls::ls(&global, &labels, format).await?,
        Command::Ssh { args } => return run_ssh::ssh(&global, args).await,
        Command::Scp { args } => return run_ssh::scp(&global, args).await,
        Command::Config => config(&global)?,
        Command::Db(command) => return db::run(&global, command).await,
        Command::Proxy(ProxyCommand::Ssh { node }) => proxy::ssh(&global, &node).await?,
        Command::Proxy(ProxyCommand::Db(args)) => db::proxy(&global, args).await?,
        Command::Play { session, speed, format } => {
            play::play(&global, &session, speed, format).await?;
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "access", &mut script);
            print(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn config(global: &crate::cli::Global) -> Result<(), Exit> {
    let session = Session::open(global)?;
    if session.profile.is_none() {
        return Err(Exit::usage(
            "an OpenSSH configuration needs files that stay: log in, or use access ssh --identity",
        ));
    }
    let folder = session.home.folder(&session.proxy);
    print(&crate::openssh::config(&folder, &session.proxy, &session.credentials.cluster)?)
}
