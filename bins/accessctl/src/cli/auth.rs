//! Flags of `auth`.

use std::path::PathBuf;

use access_daemon::config::Span;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Print the public half of an authority.
    ///
    /// Example: accessctl auth export --type=user-ssh > /etc/ssh/access_user_ca.pub
    Export {
        /// Which, and in what form.
        #[arg(long = "type", value_enum, value_name = "TYPE")]
        which: ExportType,
    },
    /// Sign certificates for a user or a server. The keys are made here; only their public halves
    /// are sent.
    ///
    /// Example: accessctl auth sign --user=ci --format=file --ttl=1h --out=ci.identity
    Sign(SignArgs),
}

/// What of an authority is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportType {
    /// Keys that sign users' SSH certificates, for sshd's TrustedUserCAKeys.
    UserSsh,
    /// Keys that sign hosts' SSH certificates, as lines for known_hosts.
    HostSsh,
    /// Roots of users' X.509 certificates, in PEM.
    TlsUser,
    /// Roots of the cluster's own X.509 certificates, in PEM: what ca_pin is made of.
    TlsHost,
    /// Roots of the certificates of self-hosted databases, in PEM: what their clients verify them
    /// by.
    Db,
    /// Roots of the certificates of database accounts, in PEM: what a database has to trust its
    /// clients by.
    DbClient,
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    #[command(flatten)]
    pub(crate) subject: SubjectFlags,
    /// Let --host have names such as *.example.com: who gets hold of the key answers for all of
    /// them.
    #[arg(long, conflicts_with = "user")]
    pub(crate) allow_wildcard: bool,
    /// What to write.
    #[arg(long, value_enum, default_value = "file", value_name = "FORMAT")]
    pub(crate) format: SignFormat,
    /// How long they shall hold, such as 1h; as long as may be, 12h of a user's, by default.
    #[arg(long, value_name = "SPAN")]
    pub(crate) ttl: Option<Span>,
    /// Where to write.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) out: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// Whom certificates are for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SubjectFlags {
    /// The user whom the certificates are for.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The names and addresses of a server that is no member of the cluster.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) host: Vec<String>,
}

/// What is written for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SignFormat {
    /// One identity file, for --identity.
    File,
    /// For OpenSSH: PATH, and PATH-cert.pub.
    Openssh,
    /// PATH.key, PATH.crt, and PATH.cas with the authorities of the other side: the cluster's hosts
    /// for a user, users and hosts for a server.
    Tls,
    /// For a PostgreSQL server: PATH.key, PATH.crt, and PATH.cas with the authority that it has to
    /// trust its clients by.
    Db,
    /// For a node of CockroachDB: the same, and in PATH.cas also the authority of its other nodes.
    Cockroachdb,
}
