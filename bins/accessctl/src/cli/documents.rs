//! Flags of `get`, `create` and `lock`.

use std::path::PathBuf;

use access_daemon::{OutputFormat, config::Span};
use clap::{Args, ValueEnum};

use crate::kinds::Reference;

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Which.
    #[arg(value_name = "KIND[/NAME]", value_delimiter = ',', required = true)]
    pub(crate) what: Vec<Reference>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: GetFormat,
}

/// How documents are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GetFormat {
    /// A table.
    Text,
    /// JSON: one object for one document, an array for a kind.
    Json,
    /// YAML, as `create` reads it.
    #[default]
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The file; - or nothing for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: Option<PathBuf>,
    /// The file.
    #[arg(value_name = "FILE", conflicts_with = "filename")]
    pub(crate) file: Option<PathBuf>,
    /// Replace documents that are there, and write roles that a connected host is too old to
    /// know: it denies everything to those who hold them.
    #[arg(short = 'F', long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    pub(crate) target: LockFlags,
    /// How long; until it is removed by default.
    #[arg(long, value_name = "SPAN")]
    pub(crate) ttl: Option<Span>,
    /// Why, for other administrators.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) message: String,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: OutputFormat,
}

/// Whom or what a lock stops.
#[derive(Clone, Debug, Default, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct LockFlags {
    /// A user.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Everybody who holds a role.
    #[arg(long, value_name = "NAME")]
    pub(crate) role: Option<String>,
    /// An account, on whatever node.
    #[arg(long, value_name = "LOGIN")]
    pub(crate) login: Option<String>,
    /// A node by name, or a host by id.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// A resource, such as db/roach.
    #[arg(long, value_name = "KIND/NAME")]
    pub(crate) resource: Option<String>,
    /// What was logged in to with a second factor's device.
    #[arg(long, value_name = "ID")]
    pub(crate) mfa_device: Option<String>,
    /// What an access request lent roles to.
    #[arg(long, value_name = "ID")]
    pub(crate) access_request: Option<String>,
}
