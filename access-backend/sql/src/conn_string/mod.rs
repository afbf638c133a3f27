//! Connection strings as libpq's users write them.

mod names;
mod pairs;

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use access_backend::Error;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, TargetSessionAttrs};

/// The setting that errors name.
const SETTING: &str = "storage.conn_string";
/// That of the change feed, where it is another one.
pub(crate) const FEED_SETTING: &str = "storage.change_feed_conn_string";

/// How long a host may take to answer, where nothing is said of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The bound of [`Pooling::max_conns`].
const MOST_CONNECTIONS: usize = 1000;

/// What `sslmode` says. <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server insists, unverified.
    Allow,
    /// TLS where the server has it, unverified.
    Prefer,
    /// TLS; verified as [`SslMode::VerifyCa`] if `sslrootcert` is given, as libpq does it.
    Require,
    /// TLS, and the server's certificate comes from an authority that is trusted.
    VerifyCa,
    /// The same, and the certificate is for the host that was named.
    VerifyFull,
}

/// What is trusted and shown in TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities of servers; the machine's where there is none.
    pub root: Option<PathBuf>,
    /// The client's certificate chain and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// How many connections this process opens at most, that of the change feed apart.
    pub max_conns: usize,
    /// A connection that is older is not used again.
    pub max_lifetime: Duration,
    /// A connection that was idle for so long is not used again.
    pub max_idle: Duration,
}

/// A connection string, understood. `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct ConnString {
    pub(crate) config: Config,
    pub(crate) ssl_mode: SslMode,
    pub(crate) tls: TlsFiles,
    pub(crate) pooling: Pooling,
    shown: String,
    setting: &'static str,
}

impl ConnString {
    /// How TLS is used.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// Which files TLS needs.
    pub fn tls(&self) -> &TlsFiles {
        &self.tls
    }

    /// How connections are kept.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The user that the database is to know.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// Whether a password stands in it.
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// The same, with another name for its connections (`application_name`): ASCII letters, digits and `-`; others are
    /// left out.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        let plain: String =
            name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(60).collect();
        self.config.application_name(plain);
        self
    }

    /// The same, as it stands in another setting.
    pub(crate) fn of_setting(self, setting: &'static str) -> Self {
        Self { setting, ..self }
    }

    /// The setting that it stands in.
    pub(crate) fn setting(&self) -> &'static str {
        self.setting
    }

    pub(crate) fn name(&self) -> &str {
        self.config.get_application_name().unwrap_or_default()
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }
}

impl FromStr for ConnString {
    type Err = Error;

    /// # Errors
    /// [`Error::Setting`] naming the parameter that is wrong, and the nearest that is right.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |reason: String| Error::Setting { setting: SETTING, reason };
        let pairs = pairs::split(text).map_err(refused)?;
        let mut seen = HashSet::new();
        let mut draft = Draft::default();
        for (name, value) in &pairs {
            if !seen.insert(name) {
                return Err(refused(format!("parameter {name} stands in it twice")));
            }
            draft.take(name, value).map_err(refused)?;
        }
        draft.finish().map_err(refused)
    }
}

impl fmt::Display for ConnString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ConnString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnString")
            .field("to", &self.shown)
            .field("ssl_mode", &self.ssl_mode)
            .field("tls", &self.tls)
            .field("pooling", &self.pooling)
            .finish()
    }
}

/// What the parameters said so far.
#[derive(Default)]
struct Draft {
    config: Config,
    hosts: Vec<String>,
    hostaddrs: Vec<IpAddr>,
    ports: Vec<u16>,
    named: bool,
    connect_timeout: Option<Duration>,
    ssl_mode: Option<SslMode>,
    root: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    pooling: Pooling,
}

impl Default for Pooling {
    fn default() -> Self {
        Self {
            max_conns: 20,
            max_lifetime: Duration::from_secs(3600),
            max_idle: Duration::from_secs(1800),
        }
    }
}

impl Draft {
    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let config = &mut self.config;
        match name {
            "user" => drop(config.user(value)),
            "password" => drop(config.password(value)),
            "dbname" => drop(config.dbname(value)),
            "options" => drop(config.options(value)),
            "application_name" => {
                self.named = true;
                config.application_name(value);
            }
            "fallback_application_name" if self.named => {}
            "fallback_application_name" => drop(config.application_name(value)),
            "host" => self.hosts = value.split(',').map(str::to_owned).collect(),
            "hostaddr" => self.hostaddrs = list(name, value, "an IP address")?,
            "port" => {
                let filled = value.split(',').map(|one| if one.is_empty() { "5432" } else { one });
                self.ports = list(name, &filled.collect::<Vec<_>>().join(","), "a port")?;
            }
            "connect_timeout" => self.connect_timeout = Some(seconds(name, value)?),
            "tcp_user_timeout" => {
                config.tcp_user_timeout(Duration::from_millis(one(name, value, "milliseconds")?));
            }
            "keepalives" => drop(config.keepalives(flag(name, value)?)),
            "keepalives_idle" => drop(config.keepalives_idle(seconds(name, value)?)),
            "keepalives_interval" => drop(config.keepalives_interval(seconds(name, value)?)),
            "keepalives_count" => drop(config.keepalives_retries(one(name, value, "a number")?)),
            "target_session_attrs" => {
                config.target_session_attrs(choice(
                    name,
                    value,
                    &[
                        ("any", TargetSessionAttrs::Any),
                        ("read-write", TargetSessionAttrs::ReadWrite),
                        // A primary is what takes writes, as far as a store is concerned.
                        ("primary", TargetSessionAttrs::ReadWrite),
                    ],
                )?);
            }
            "load_balance_hosts" => {
                config.load_balance_hosts(choice(
                    name,
                    value,
                    &[("disable", LoadBalanceHosts::Disable), ("random", LoadBalanceHosts::Random)],
                )?);
            }
            "channel_binding" => {
                config.channel_binding(choice(
                    name,
                    value,
                    &[
                        ("disable", ChannelBinding::Disable),
                        ("prefer", ChannelBinding::Prefer),
                        ("require", ChannelBinding::Require),
                    ],
                )?);
            }
            "client_encoding" => {
                choice(name, value, &[("UTF8", ()), ("utf8", ()), ("UTF-8", ()), ("auto", ())])?;
            }
            "gssencmode" => choice(name, value, &[("disable", ()), ("prefer", ())])?,
            "sslnegotiation" => choice(name, value, &[("postgres", ())])?,
            "sslcompression" => choice(name, value, &[("0", ())])?,
            "sslsni" => choice(name, value, &[("1", ())])?,
            "sslmode" => {
                self.ssl_mode = Some(choice(
                    name,
                    value,
                    &[
                        ("disable", SslMode::Disable),
                        ("allow", SslMode::Allow),
                        ("prefer", SslMode::Prefer),
                        ("require", SslMode::Require),
                        ("verify-ca", SslMode::VerifyCa),
                        ("verify-full", SslMode::VerifyFull),
                    ],
                )?);
            }
            "sslrootcert" => self.root = (value != "system").then(|| value.into()),
            "sslcert" => self.cert = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            "pool_max_conns" => {
                self.pooling.max_conns = match one(name, value, "a number")? {
                    most @ 2..=MOST_CONNECTIONS => most,
                    _ => return Err(format!("{name} is between 2 and {MOST_CONNECTIONS}")),
                }
            }
            "pool_max_conn_lifetime" => self.pooling.max_lifetime = span(name, value)?,
            "pool_max_conn_idle_time" => self.pooling.max_idle = span(name, value)?,
            other => return Err(names::unknown(other)),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ConnString, String> {
        if self.config.get_user().is_none_or(str::is_empty) {
            return Err("it names no user; write postgres://USER@HOST/DATABASE".into());
        }
        if self.hosts.is_empty() && self.hostaddrs.is_empty() {
            return Err("it names no host; write postgres://USER@HOST/DATABASE".into());
        }
        if self.hosts.iter().any(String::is_empty) {
            return Err("host has an empty name in its list".into());
        }
        let places = self.hosts.len().max(self.hostaddrs.len());
        if self.ports.len() > 1 && self.ports.len() != places {
            return Err(format!("port names {} ports for {places} hosts", self.ports.len()));
        }
        if !self.hostaddrs.is_empty() && !self.hosts.is_empty() && self.hostaddrs.len() != places {
            return Err("hostaddr and host name different numbers of hosts".into());
        }
        let identity = match (self.cert.take(), self.key.take()) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err("sslcert needs sslkey beside it".into()),
            (None, Some(_)) => return Err("sslkey needs sslcert beside it".into()),
        };
        let local = |host: &String| {
            host.starts_with('/')
                || host == "localhost"
                || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        };
        // Without a word about it, nothing that leaves this machine goes unverified.
        let ssl_mode = self.ssl_mode.unwrap_or_else(|| {
            let near =
                self.hosts.iter().all(local) && self.hostaddrs.iter().all(IpAddr::is_loopback);
            if near { SslMode::Prefer } else { SslMode::VerifyFull }
        });
        if ssl_mode == SslMode::VerifyFull && self.hosts.is_empty() {
            return Err("sslmode=verify-full needs host beside hostaddr".into());
        }
        if self.config.get_dbname().is_none_or(str::is_empty) {
            let user = self.config.get_user().unwrap_or_default().to_owned();
            self.config.dbname(user);
        }
        if self.config.get_application_name().is_none() {
            self.config.application_name("access");
        }
        // Zero is no bound: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-CONNECT-TIMEOUT>
        let timeout = self.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        if !timeout.is_zero() {
            self.config.connect_timeout(timeout);
        }
        for host in &self.hosts {
            self.config.host(host);
        }
        for address in &self.hostaddrs {
            self.config.hostaddr(*address);
        }
        for port in &self.ports {
            self.config.port(*port);
        }
        let shown = self.shown();
        let Self { config, root, pooling, .. } = self;
        let tls = TlsFiles { root, identity };
        Ok(ConnString { config, ssl_mode, tls, pooling, shown, setting: SETTING })
    }

    fn shown(&self) -> String {
        let mut places: Vec<String> = self.hosts.clone();
        if places.is_empty() {
            places = self.hostaddrs.iter().map(IpAddr::to_string).collect();
        }
        for (at, place) in places.iter_mut().enumerate() {
            if let Some(port) = self.ports.get(at).or(self.ports.first()) {
                *place = match place.contains(':') {
                    true => format!("[{place}]:{port}"),
                    false => format!("{place}:{port}"),
                };
            }
        }
        format!(
            "postgres://{}@{}/{}",
            self.config.get_user().unwrap_or_default(),
            places.join(","),
            self.config.get_dbname().unwrap_or_default(),
        )
    }
}

fn one<T: FromStr>(name: &str, value: &str, what: &str) -> Result<T, String> {
    value.trim().parse().map_err(|_| format!("{name} is {what}, not {}", shown(value)))
}

fn list<T: FromStr>(name: &str, value: &str, what: &str) -> Result<Vec<T>, String> {
    value.split(',').map(|part| one(name, part, what)).collect()
}

fn seconds(name: &str, value: &str) -> Result<Duration, String> {
    one(name, value, "a number of seconds").map(Duration::from_secs)
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    choice(name, value, &[("1", true), ("0", false)])
}

/// `90s`, `15m`, `1h`.
fn span(name: &str, value: &str) -> Result<Duration, String> {
    let wrong = || format!("{name} is a time like 90s, 15m or 1h, not {}", shown(value));
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match value.strip_prefix(digits).unwrap_or_default() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(number.saturating_mul(unit).max(1)))
}

fn choice<T: Copy>(name: &str, value: &str, of: &[(&str, T)]) -> Result<T, String> {
    of.iter().find(|(known, _)| *known == value).map(|(_, chosen)| *chosen).ok_or_else(|| {
        let known: Vec<&str> = of.iter().map(|(known, _)| *known).collect();
        format!("{name} is {}, not {}", known.join(", "), shown(value))
    })
}

fn shown(value: &str) -> String {
    format!("{:?}", value.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests;
