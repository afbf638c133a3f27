//! Flags of `tokens` and `users`.

use access_core::RoleName;
use access_core::document::unknown;
use access_core::identity::Service;
use access_daemon::{OutputFormat, config::Span};
use clap::{Args, Subcommand};

use super::{Format, Pair};

#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Make a token, and print the command that joins with it.
    ///
    /// Example: accessctl tokens add --type=node --ttl=30m --names=web-1 --labels=env=prod
    Add(AddTokenArgs),
    /// List tokens. Their secrets are not kept.
    ///
    /// Example: accessctl tokens ls
    Ls {
        #[command(flatten)]
        format: Format,
    },
    /// Remove a token, so that nobody joins with it any more.
    ///
    /// Example: accessctl tokens rm 6f0c1f2ab34d5e67
    Rm {
        /// Its name, or all of it.
        #[arg(value_name = "TOKEN", required = true)]
        tokens: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddTokenArgs {
    /// What may join with it: node, db, app, kube, windowsdesktop, proxy.
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',', required = true)]
    #[arg(value_parser = joining)]
    pub(crate) types: Vec<Service>,
    /// How long it can be used, such as 30m (the default) or 12h.
    #[arg(long, value_name = "SPAN")]
    pub(crate) ttl: Option<Span>,
    /// How often it can be used; any number of times by default.
    #[arg(long, value_name = "N")]
    pub(crate) uses: Option<std::num::NonZeroU32>,
    /// Resources that may be claimed with it, web-1 or db/roach; any free one by default.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) names: Vec<String>,
    /// Labels that resources get that join with it, NAME=VALUE.
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    pub(crate) labels: Vec<Pair>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: OutputFormat,
}

/// What a token can be for. Auth replicas are the cluster, and bots are users.
const JOINING: [Service; 6] = [
    Service::Node,
    Service::Db,
    Service::App,
    Service::Kube,
    Service::WindowsDesktop,
    Service::Proxy,
];

fn joining(word: &str) -> Result<Service, String> {
    let found = JOINING.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(word));
    found.ok_or_else(|| unknown("type", word, &JOINING.map(Service::as_str)))
}

#[derive(Debug, Subcommand)]
pub(crate) enum UsersCommand {
    /// Make a user, and print the link with which they choose a password.
    ///
    /// Example: accessctl users add alice --roles=access,requester --logins=alice,root
    Add(AddUserArgs),
    /// List users.
    ///
    /// Example: accessctl users ls
    Ls {
        #[command(flatten)]
        format: Format,
    },
    /// Change a user's roles and accounts; what is not named stays. Certificates that they have
    /// become void.
    ///
    /// Example: accessctl users update alice --roles=access,auditor
    Update(UpdateUserArgs),
    /// Void a user's password and certificates, and print a new invitation link.
    ///
    /// Example: accessctl users reset alice
    Reset {
        /// Who.
        #[arg(value_name = "NAME")]
        name: String,
        /// How long the link can be used, such as 1h (the default).
        #[arg(long, value_name = "SPAN")]
        ttl: Option<Span>,
        #[command(flatten)]
        format: Format,
    },
    /// Remove a user. Certificates that they have become void.
    ///
    /// Example: accessctl users rm alice
    Rm {
        /// Who.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddUserArgs {
    /// Who.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Their roles, such as access,requester.
    #[arg(long, value_name = "ROLES", value_delimiter = ',', required = true)]
    pub(crate) roles: Vec<RoleName>,
    #[command(flatten)]
    pub(crate) traits: TraitFlags,
    /// How long the invitation link can be used, such as 1h (the default).
    #[arg(long, value_name = "SPAN")]
    pub(crate) ttl: Option<Span>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateUserArgs {
    /// Who.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Their roles from now on.
    #[arg(long, alias = "set-roles", value_name = "ROLES", value_delimiter = ',')]
    pub(crate) roles: Option<Vec<RoleName>>,
    #[command(flatten)]
    pub(crate) traits: TraitFlags,
}

/// The accounts that a user's roles may draw on. An empty list takes all away.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TraitFlags {
    /// Accounts on nodes.
    #[arg(long, alias = "set-logins", value_name = "LOGINS", value_delimiter = ',')]
    pub(crate) logins: Option<Vec<String>>,
    /// Accounts in databases.
    #[arg(long, alias = "set-db-users", value_name = "NAMES", value_delimiter = ',')]
    pub(crate) db_users: Option<Vec<String>>,
    /// Databases on their servers.
    #[arg(long, alias = "set-db-names", value_name = "NAMES", value_delimiter = ',')]
    pub(crate) db_names: Option<Vec<String>>,
    /// Roles in databases.
    #[arg(long, alias = "set-db-roles", value_name = "NAMES", value_delimiter = ',')]
    pub(crate) db_roles: Option<Vec<String>>,
    /// Accounts on Windows desktops.
    #[arg(long, alias = "set-windows-logins", value_name = "LOGINS", value_delimiter = ',')]
    pub(crate) windows_logins: Option<Vec<String>>,
    /// Users to appear as in Kubernetes.
    #[arg(long, alias = "set-kubernetes-users", value_name = "NAMES", value_delimiter = ',')]
    pub(crate) kubernetes_users: Option<Vec<String>>,
    /// Groups to appear as in Kubernetes.
    #[arg(long, alias = "set-kubernetes-groups", value_name = "NAMES", value_delimiter = ',')]
    pub(crate) kubernetes_groups: Option<Vec<String>>,
    /// Any other trait, NAME=VALUE; repeat it for more values.
    #[arg(long = "trait", value_name = "NAME=VALUE")]
    pub(crate) traits: Vec<Pair>,
}
