//! The sections and fields.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use access_core::gate::{LEAST_STALENESS, SIGN_OF_LIFE};
use serde::{Deserialize, Deserializer, de};

use super::databases::DbSection;
use super::value::{Span, Switch};

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What every program reads.
    pub access: Common,
    /// The Auth Service.
    pub auth_service: AuthSection,
    /// The proxy.
    pub proxy_service: ProxySection,
    /// This host by SSH.
    pub ssh_service: Option<SshSection>,
    /// Databases.
    pub db_service: Option<DbSection>,
    /// Web applications.
    pub app_service: Option<AppSection>,
    /// Kubernetes clusters.
    pub kubernetes_service: Option<KubeSection>,
    /// Windows desktops.
    pub windows_desktop_service: Option<DesktopSection>,
    /// What it was read from, for [`crate::Reload`].
    #[serde(skip)]
    pub source: crate::Source,
}

/// What every program reads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Common {
    /// This host's name in the cluster; the system's name by default.
    pub nodename: Option<String>,
    /// Where state is kept.
    pub data_dir: Option<PathBuf>,
    /// Where Auth keeps the cluster's state.
    pub storage: Storage,
    /// Auth's own address, `HOST:PORT`; those of all replicas where there are several.
    pub auth_server: Option<OneOrMany>,
    /// A proxy's address, `HOST:PORT`, or those of several.
    pub proxy_server: Option<OneOrMany>,
    /// How to join.
    pub join_params: Option<JoinParams>,
    /// The cluster's key.
    pub ca_pin: Option<OneOrMany>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    #[serde(deserialize_with = "address")]
    pub diag_addr: Option<SocketAddr>,
    /// Logging.
    pub log: Log,
    /// Past this age of the policy nothing new is granted; 8 s at the least, since the policy is
    /// heard of every 5 s.
    #[serde(deserialize_with = "staleness")]
    pub max_staleness: Option<Span>,
}

/// One text or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// What a flag was given that takes a list; `None` when it was not given.
    pub fn of_flag(values: Vec<String>) -> Option<Self> {
        (!values.is_empty()).then_some(Self::Many(values))
    }

    /// All of them.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Where Auth keeps the cluster's state.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Which engine.
    #[serde(rename = "type")]
    pub engine: StorageType,
    /// The database's connection string, for engines that have one.
    pub conn_string: Option<String>,
    /// The change feed's, when it is another one.
    pub change_feed_conn_string: Option<String>,
    /// When expired rows are removed.
    pub ttl_job_cron: Option<String>,
    /// How long audit events are kept; a year by default, `off` keeps them for ever.
    #[serde(deserialize_with = "retention")]
    pub audit_retention: Retention,
    /// Where recordings go: a folder or an `s3://` URL; `recordings` in the data directory by
    /// default.
    pub recordings: Option<String>,
}

/// How long audit events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention(pub Option<Duration>);

impl Default for Retention {
    /// A year.
    fn default() -> Self {
        Self(Some(DAY * 365))
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// The storage engines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// A file in the data directory.
    #[default]
    Sqlite,
    /// Nothing is kept: for tests.
    Memory,
    /// CockroachDB.
    Cockroachdb,
    /// PostgreSQL.
    Postgres,
}

/// How to join.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinParams {
    /// Only `token` so far.
    #[serde(default)]
    pub method: JoinMethod,
    /// The token, or the path of a file that holds it.
    pub token_name: String,
}

/// Ways to join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinMethod {
    /// By a join token.
    #[default]
    Token,
}

/// Logging.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub severity: Option<Severity>,
    /// `text` or `json`.
    pub format: crate::logging::LogFormat,
}

/// The least severe message that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Errors.
    Error,
    /// And warnings.
    #[serde(alias = "warning")]
    Warn,
    /// And what goes on.
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

/// The Auth Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSection {
    enabled: Option<Switch>,
    /// Where the API is served.
    #[serde(deserialize_with = "address")]
    pub listen_addr: Option<SocketAddr>,
    /// The cluster's name; fixed by the first start.
    pub cluster_name: Option<String>,
}

impl AuthSection {
    /// Whether it runs; yes, unless the file says no.
    pub fn enabled(&self) -> bool {
        self.enabled.is_none_or(|switch| switch.0)
    }
}

/// The proxy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxySection {
    enabled: Option<Switch>,
    /// The public port.
    #[serde(deserialize_with = "address")]
    pub web_listen_addr: Option<SocketAddr>,
    /// Where clients reach it, `HOST:PORT`.
    pub public_addr: Option<OneOrMany>,
    /// Where other proxies reach it.
    #[serde(deserialize_with = "address")]
    pub peer_listen_addr: Option<SocketAddr>,
    /// Certificates for the web, of a public authority; of the cluster's own without.
    pub https_keypairs: Vec<KeyPair>,
    /// Whether a load balancer in front tells the client's address.
    pub proxy_protocol: ProxyProtocol,
}

impl ProxySection {
    /// Whether it runs; yes, unless the file says no.
    pub fn enabled(&self) -> bool {
        self.enabled.is_none_or(|switch| switch.0)
    }
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// The chain, leaf first.
    pub cert_file: PathBuf,
    /// The leaf's key.
    pub key_file: PathBuf,
}

/// Whether the PROXY protocol is spoken by what connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Never: a header is an error.
    #[default]
    Off,
    /// Always: a connection without is refused.
    On,
}

impl<'de> Deserialize<'de> for ProxyProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Switch(on) = Switch::deserialize(deserializer)?;
        Ok(if on { Self::On } else { Self::Off })
    }
}

/// This host by SSH.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SshSection {
    enabled: Option<Switch>,
    /// Labels for role matchers.
    pub labels: BTreeMap<String, String>,
    /// Who serves.
    pub mode: SshMode,
}

impl SshSection {
    /// Whether it runs; yes, unless the file says no.
    pub fn enabled(&self) -> bool {
        self.enabled.is_none_or(|switch| switch.0)
    }
}

/// Who serves SSH on this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SshMode {
    /// The agent itself.
    #[default]
    Local,
    /// The host's own `sshd`.
    Openssh,
}

/// Web applications.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppSection {
    /// Whether it runs.
    pub enabled: Option<Switch>,
    /// Which.
    pub apps: Vec<App>,
}

/// A web application.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its name in the cluster.
    pub name: String,
    /// Where it is.
    pub uri: String,
    /// The name that browsers know it by.
    #[serde(default)]
    pub public_addr: Option<String>,
    /// What is changed on the way.
    #[serde(default)]
    pub rewrite: BTreeMap<String, serde_json::Value>,
}

/// Kubernetes clusters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubeSection {
    /// Whether it runs.
    pub enabled: Option<Switch>,
    /// How to reach it.
    pub kubeconfig_file: Option<PathBuf>,
    /// Its name in the cluster.
    pub kube_cluster_name: Option<String>,
}

/// Windows desktops.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DesktopSection {
    /// Whether it runs.
    pub enabled: Option<Switch>,
    /// Which.
    pub static_hosts: Vec<Desktop>,
}

/// A Windows desktop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desktop {
    /// Its name in the cluster.
    pub name: String,
    /// Where it is, `HOST:PORT`.
    pub addr: String,
}

fn retention<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Retention, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" {
        return Ok(Retention(None));
    }
    let span: Span = text.parse().map_err(serde::de::Error::custom)?;
    if span.0 < DAY || span.0 > DAY * 36_525 {
        return Err(serde::de::Error::custom(format!(
            "{text} is no time to keep events for: 1d to 36525d, or off"
        )));
    }
    Ok(Retention(Some(span.0)))
}

fn staleness<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
    let span = Span::deserialize(deserializer)?;
    if span.0 < LEAST_STALENESS {
        return Err(de::Error::custom(format!(
            "max_staleness: {:?} is too short, {LEAST_STALENESS:?} is the least: the policy is \
             heard of every {SIGN_OF_LIFE:?}, and past max_staleness everything is denied",
            span.0
        )));
    }
    Ok(Some(span))
}

pub(super) fn address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map(Some)
        .map_err(|_| de::Error::custom(format!("{text:?} is no address HOST:PORT to listen on")))
}
