//! Commands and flags.

mod auth;
mod backend;
mod documents;
mod people;
mod records;

use std::path::PathBuf;

use access_daemon::OutputFormat;
use clap::{Args, Parser, Subcommand};

pub(crate) use auth::{AuthCommand, ExportType, SignArgs, SignFormat};
pub(crate) use backend::{BackendCommand, MigrateArgs, MultiRegionArgs, SurviveArg};
pub(crate) use documents::{CreateArgs, GetArgs, GetFormat, LockArgs, LockFlags};
pub(crate) use people::{
    AddTokenArgs, AddUserArgs, TokensCommand, TraitFlags, UpdateUserArgs, UsersCommand,
};
pub(crate) use records::{AuditCommand, Moment, RecordingsCommand, SearchArgs};

/// Administer a cluster.
///
/// On the Auth Service's own host it needs no login: it finds the data directory, and uses the
/// daemon that runs there or, when none does, the store itself. Elsewhere it uses your login of
/// `access`, or an identity file.
///
/// Example: accessctl users add alice --roles=access --logins=alice
#[derive(Debug, Parser)]
#[command(name = "accessctl", version, propagate_version = true)]
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
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// The Auth Service's data directory on this host; ./access-data or /var/lib/access when one
    /// of them holds a cluster.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The Auth Service's configuration on this host: it says which data directory and which store
    /// there are.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The Auth Service's address; of several replicas all, with commas between them or by more
    /// flags.
    #[arg(long, global = true, value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub(crate) auth_server: Vec<String>,
    /// A proxy's address; ACCESS_PROXY by default. Beside --data-dir: the one that links name.
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    pub(crate) proxy: Option<String>,
    /// An identity file to use instead of a login; ACCESS_IDENTITY by default.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: OutputFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the cluster: its name, version, key, store, and what is in it.
    ///
    /// Example: accessctl status
    Status {
        #[command(flatten)]
        format: Format,
    },
    /// Tokens with which agents and proxies join.
    ///
    /// Example: accessctl tokens add --type=node --ttl=30m
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Users and their invitations.
    ///
    /// Example: accessctl users add alice --roles=access --logins=alice,root
    #[command(subcommand)]
    Users(UsersCommand),
    /// Print documents: a kind, or one document.
    ///
    /// Kinds are user, role, token, invite, node, db, app, kube, desktop, server, authority, lock,
    /// session, cluster_config.
    ///
    /// Example: accessctl get role/access > access.yaml
    Get(GetArgs),
    /// Create documents from YAML: a file, or standard input.
    ///
    /// Example: accessctl create -f role.yaml
    Create(CreateArgs),
    /// Change a document in your editor (VISUAL, EDITOR, or vi).
    ///
    /// Example: accessctl edit role/dev
    Edit {
        /// Which.
        #[arg(value_name = "KIND/NAME")]
        what: crate::kinds::Named,
        /// Write a role even where a connected host is too old to know it.
        #[arg(short = 'F', long)]
        force: bool,
    },
    /// Remove documents. A resource's name becomes free for other hosts.
    ///
    /// Example: accessctl rm role/dev
    Rm {
        /// Which.
        #[arg(value_name = "KIND/NAME", required = true)]
        what: Vec<crate::kinds::Named>,
    },
    /// The cluster's authorities, and certificates signed by them.
    ///
    /// Example: accessctl auth export --type=user-ssh
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Hosts that are reached by SSH.
    ///
    /// Example: accessctl nodes ls env=prod
    #[command(subcommand)]
    Nodes(NodesCommand),
    /// Databases, and whether they answer their agents.
    ///
    /// Example: accessctl db ls
    #[command(subcommand)]
    Db(DbCommand),
    /// Recordings of sessions.
    ///
    /// Example: accessctl recordings ls
    #[command(subcommand)]
    Recordings(RecordingsCommand),
    /// The audit log.
    ///
    /// Example: accessctl audit search --from=24h --type=session.start
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Stop a user, a role, an account, a node at once, sessions that run among it.
    ///
    /// Example: accessctl lock --user=alice --ttl=2h --message="laptop stolen"
    Lock(LockArgs),
    /// The store that the cluster's state is in.
    ///
    /// Example: accessctl backend status
    #[command(subcommand)]
    Backend(BackendCommand),
    /// Print a completion script for a shell.
    ///
    /// Example: accessctl completions bash > /etc/bash_completion.d/accessctl
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodesCommand {
    /// List them.
    ///
    /// Example: accessctl nodes ls env=prod --format=json
    Ls {
        /// Only those with these labels, NAME=VALUE.
        #[arg(value_name = "LABELS")]
        labels: Vec<String>,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// List them.
    ///
    /// Example: accessctl db ls env=prod --format=json
    Ls {
        /// Only those with these labels, NAME=VALUE.
        #[arg(value_name = "LABELS")]
        labels: Vec<String>,
        #[command(flatten)]
        format: Format,
    },
}

/// A name and a value, `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair(pub(crate) String, pub(crate) String);

impl std::str::FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok(Self(name.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(format!("{text:?} is not NAME=VALUE")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(args: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(args.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// All but the one that the parser adds by itself.
    fn own_subcommands(command: &mut clap::Command) -> impl Iterator<Item = &mut clap::Command> {
        command.get_subcommands_mut().filter(|sub| sub.get_name() != "help")
    }

    #[test]
    fn every_command_s_help_has_an_example() {
        fn check(command: &mut clap::Command, path: &str) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example: accessctl"), "{path}: {help}");
            for sub in own_subcommands(command) {
                let path = format!("{path} {}", sub.get_name());
                check(sub, &path);
            }
        }
        check(&mut Cli::command(), "accessctl");
    }

    #[test]
    fn every_example_is_understood() {
        fn collect(command: &mut clap::Command, examples: &mut Vec<String>) {
            let help = command.render_long_help().to_string();
            let after = help.split("Example: ").nth(1).unwrap_or_default();
            // An example ends with its paragraph; help is wrapped.
            let example = after.split("\n\n").next().unwrap_or_default();
            examples.push(example.split_whitespace().collect::<Vec<_>>().join(" "));
            for sub in own_subcommands(command) {
                collect(sub, examples);
            }
        }
        let mut examples = Vec::new();
        collect(&mut Cli::command(), &mut examples);
        assert!(examples.len() > 25, "{examples:?}");
        for example in examples {
            let words = example.split(" > ").next().unwrap().replace("\"laptop stolen\"", "stolen");
            parse(&words).unwrap_or_else(|err| panic!("{example}: {err}"));
        }
    }

    #[test]
    fn what_the_guides_say_is_understood() {
        let guides = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let (mut commands, mut configurations) = (0, 0);
        for guide in std::fs::read_dir(guides).unwrap() {
            let text = std::fs::read_to_string(guide.unwrap().path()).unwrap();
            for line in text.lines().filter(|line| line.starts_with("accessctl ")) {
                let words = line.split(" > ").next().unwrap();
                parse(words).unwrap_or_else(|err| panic!("{line}: {err}"));
                commands += 1;
            }
            for block in text.split("```yaml\n").skip(1) {
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), block.split("```").next().unwrap()).unwrap();
                let config = access_daemon::Config::load(file.path());
                let config = config.unwrap_or_else(|err| panic!("{block}: {err}"));
                if config.access.storage.conn_string.is_some() {
                    let clock = crate::cluster::clock();
                    auth_daemon::StoreAt::of(&config, std::path::Path::new("/x"), clock).unwrap();
                }
                configurations += 1;
            }
        }
        assert!(commands > 6 && configurations > 1, "{commands} {configurations}");
    }

    #[test]
    fn lists_are_given_with_commas() {
        let cli = parse("accessctl tokens add --type=node,db --ttl=1h --labels a=b,c=d").unwrap();
        let Command::Tokens(TokensCommand::Add(args)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(args.types.len(), 2);
        assert_eq!(args.labels, [Pair("a".into(), "b".into()), Pair("c".into(), "d".into())]);
    }

    #[test]
    fn what_is_mistyped_is_a_usage_error_with_the_nearest() {
        for (args, hint) in [
            ("accessctl tokens add --type=nod", "node"),
            ("accessctl statsu", "status"),
            ("accessctl get rolle", "role"),
            ("accessctl auth export --type=user-shh", "user-ssh"),
            ("accessctl auth export --type=jwt", "host-ssh"),
            ("accessctl auth sign --user=a --format=opensh --out=x", "openssh"),
            ("accessctl lock", "--user"),
            ("accessctl lock --user=a --role=b", "cannot be used with"),
            ("accessctl auth sign --out=x", "--host"),
            ("accessctl auth sign --user=a --allow-wildcard --out=x", "cannot be used with"),
            ("accessctl rm role", "role/NAME"),
        ] {
            let err = parse(args).unwrap_err();
            assert!(err.use_stderr(), "{args}");
            assert!(err.to_string().contains(hint), "{args}: {err}");
        }
    }
}
