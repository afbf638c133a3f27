//! Commands and flags.

use std::path::PathBuf;

use access_daemon::{OutputFormat, config::Span};
use clap::{Args, Parser, Subcommand};

/// Reach your infrastructure with certificates that live for hours.
///
/// Example: access login --proxy=example.com --user=alice && access ssh root@web-1
#[derive(Debug, Parser)]
#[command(name = "access", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Say more about what goes on.
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The cluster's proxy, HOST[:PORT].
    #[arg(long, global = true, env = "ACCESS_PROXY", value_name = "HOST[:PORT]")]
    pub(crate) proxy: Option<String>,
    /// Your name in the cluster.
    #[arg(long, global = true, env = "ACCESS_USER", value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// An identity file to use instead of a login.
    #[arg(long, global = true, env = "ACCESS_IDENTITY", value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Where logins are kept; ~/.access by default.
    #[arg(long, global = true, env = "ACCESS_HOME", value_name = "DIR", hide = true)]
    pub(crate) home: Option<PathBuf>,
}

/// What is known of a cluster before the first login.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FirstTrustArgs {
    /// The cluster's key, sha256:…; may be given more than once.
    #[arg(long, value_name = "PIN")]
    pub(crate) ca_pin: Vec<String>,
    /// A file with the cluster's host authority, in PEM.
    #[arg(long, value_name = "FILE", conflicts_with = "ca_pin")]
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in and get certificates.
    Login {
        #[command(flatten)]
        trust: FirstTrustArgs,
        /// How long the certificates shall live, such as 8h.
        #[arg(long, value_name = "SPAN")]
        ttl: Option<Span>,
    },
    /// Invitations to a cluster.
    #[command(subcommand)]
    Invite(InviteCommand),
    /// Make the certificates void and forget them.
    Logout,
    /// Show who you are logged in as.
    Status {
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// List the nodes that you may reach.
    ///
    /// Example: access ls env=prod
    Ls {
        /// Only those with these labels, NAME=VALUE.
        #[arg(value_name = "LABELS")]
        labels: Vec<String>,
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Log in to a node, or run a command on it, by the ssh that is installed here.
    ///
    /// Example: access ssh -L 8080:localhost:80 root@web-1
    Ssh {
        /// Flags of ssh, then [LOGIN@]NODE, then a command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Copy files to and from nodes, by the scp that is installed here.
    ///
    /// Example: access scp notes.txt root@web-1:/tmp/
    Scp {
        /// Flags of scp, then sources and a target, [LOGIN@]NODE:PATH.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Print an OpenSSH configuration, for ssh, scp, sftp, rsync, git and editors.
    ///
    /// Example: access config > ~/.ssh/access && ssh -F ~/.ssh/access root@web-1.node.CLUSTER
    Config,
    /// Databases.
    #[command(subcommand)]
    Db(DbCommand),
    /// Lead other programs through the proxy.
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// Replay a recorded session.
    ///
    /// Example: access play 0197e0d4-… --speed=4
    Play {
        /// The session's id, or a recording's file.
        #[arg(value_name = "SESSION")]
        session: String,
        /// How many times faster than it was.
        #[arg(long, default_value_t = 1.0)]
        speed: f64,
        /// cast: the whole recording as asciicast; text: what was shown, at once and without what
        /// steers a terminal; play: in time, on a terminal.
        #[arg(long, value_enum)]
        format: Option<PlayFormat>,
    },
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// How a recording is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PlayFormat {
    /// In time, on a terminal.
    Play,
    /// At once.
    Text,
    /// As asciicast v2.
    Cast,
}

#[derive(Debug, Subcommand)]
pub(crate) enum InviteCommand {
    /// Redeem an invitation: choose a password.
    Accept {
        /// The link that you were sent, or - to read it from standard input.
        #[arg(value_name = "URL")]
        url: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProxyCommand {
    /// Connect standard input and output with a node's SSH server: for ssh's ProxyCommand.
    Ssh {
        /// [LOGIN@]NODE[:PORT]; login and port are for ssh alone and ignored here.
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Open a port of this machine that leads to a database, until Ctrl-C.
    ///
    /// Example: access proxy db roach --port 5432 --tunnel --db-user=danielle
    Db(ProxyDb),
}

/// A port that leads to a database.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProxyDb {
    /// The database's name.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The port; one that is free by default.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port: u16,
    /// Speak TLS for the program that connects, with your certificate: for programs that cannot.
    #[arg(long)]
    pub(crate) tunnel: bool,
    /// The account in the database, for the command that is printed.
    #[arg(long, value_name = "USER")]
    pub(crate) db_user: Option<String>,
    /// The database in it, for the command that is printed.
    #[arg(long, value_name = "DATABASE")]
    pub(crate) db_name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// List the databases that you may reach.
    ///
    /// Example: access db ls env=prod
    Ls {
        /// Only those with these labels, NAME=VALUE.
        #[arg(value_name = "LABELS")]
        labels: Vec<String>,
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Remember a database and enter it into ~/.pg_service.conf.
    ///
    /// Example: access db login --db-user=danielle --db-name=orders roach
    Login {
        #[command(flatten)]
        target: DbTarget,
    },
    /// Forget a database, or all of them.
    Logout {
        /// Which; all without.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Connect by the client that is installed here: psql, or cockroach sql.
    ///
    /// Example: access db connect --db-user=danielle --db-name=defaultdb roach -- -c 'select 1'
    Connect {
        #[command(flatten)]
        target: DbTarget,
        /// Arguments for the client.
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Print what other programs need to connect.
    ///
    /// Example: access db config roach
    Config {
        #[command(flatten)]
        target: DbTarget,
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Print environment variables for programs that are built on libpq.
    ///
    /// Example: eval "$(access db env roach)" && psql
    Env {
        #[command(flatten)]
        target: DbTarget,
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
}

/// Which database, and as whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct DbTarget {
    /// The database's name, as access db ls shows it; the one that you logged in to without.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The account in the database.
    #[arg(long, value_name = "USER")]
    pub(crate) db_user: Option<String>,
    /// The database in it; the account's name by default.
    #[arg(long, value_name = "DATABASE")]
    pub(crate) db_name: Option<String>,
}
