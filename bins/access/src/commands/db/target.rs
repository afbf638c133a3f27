//! One database as a client is told to reach it.

use std::path::{Path, PathBuf};

use access_client::HostPort;
use access_core::resource::{ResourceKind, dns_label};
use access_core::{ClusterName, ResourceName, ResourceRef};
use access_daemon::{Exit, ExitCode};
use serde::{Deserialize, Serialize};

/// What is remembered of a database that somebody logged in to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    /// Its name in the cluster.
    pub(crate) name: String,
    /// `postgres`, `cockroachdb`, …
    pub(crate) protocol: String,
    /// The account in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// The database in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<String>,
}

/// The parameters by which a client that is built on libpq reaches a database
/// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS>).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Parameters {
    pub(crate) host: String,
    /// An address, so that no name must be known to DNS.
    pub(crate) hostaddr: String,
    pub(crate) port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dbname: Option<String>,
    pub(crate) sslmode: &'static str,
    pub(crate) sslrootcert: PathBuf,
    pub(crate) sslcert: PathBuf,
    pub(crate) sslkey: PathBuf,
}

impl Parameters {
    /// How to reach a database straight through the proxy, with the files in `folder`.
    ///
    /// # Errors
    /// [`ExitCode::Unreachable`] when the proxy's name has no address.
    pub(crate) async fn straight(
        login: &Login,
        cluster: &ClusterName,
        proxy: &HostPort,
        folder: &Path,
    ) -> Result<Self, Exit> {
        let unreachable = |why: String| {
            Exit::new(ExitCode::Unreachable, format!("cannot find the proxy {proxy}: {why}"))
        };
        let mut found = tokio::net::lookup_host((proxy.host(), proxy.port()))
            .await
            .map_err(|err| unreachable(err.to_string()))?;
        let addr = found.next().ok_or_else(|| unreachable("it has no address".into()))?;
        let folder = std::path::absolute(folder).map_err(Exit::failed)?;
        Ok(Self {
            host: dns_name(&login.name, cluster)?,
            hostaddr: addr.ip().to_string(),
            port: proxy.port(),
            user: login.user.clone(),
            dbname: login.database.clone(),
            sslmode: "verify-full",
            sslrootcert: folder.join("cas.pem"),
            sslcert: folder.join("tls.crt"),
            sslkey: folder.join("tls.key"),
        })
    }

    /// The same through a port of this machine.
    pub(crate) fn through(mut self, local: std::net::SocketAddr) -> Self {
        self.hostaddr = local.ip().to_string();
        self.port = local.port();
        self
    }

    /// Keyword and value, in the order in which people read them.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let Self { host, hostaddr, port, user, dbname, sslmode, sslrootcert, sslcert, sslkey } =
            self;
        let path = |path: &PathBuf| path.display().to_string();
        let mut pairs = vec![
            ("host", host.clone()),
            ("hostaddr", hostaddr.clone()),
            ("port", port.to_string()),
        ];
        pairs.extend(user.clone().map(|user| ("user", user)));
        pairs.extend(dbname.clone().map(|name| ("dbname", name)));
        pairs.extend([
            ("sslmode", (*sslmode).to_owned()),
            ("sslrootcert", path(sslrootcert)),
            ("sslcert", path(sslcert)),
            ("sslkey", path(sslkey)),
        ]);
        pairs
    }

    /// As one connection string of libpq.
    pub(crate) fn conninfo(&self) -> String {
        let pairs = self.pairs();
        let quoted = pairs.iter().map(|(keyword, value)| format!("{keyword}={}", quoted(value)));
        quoted.collect::<Vec<_>>().join(" ")
    }
}

/// A value as connection strings of libpq take it: quoted when it has to be.
pub(crate) fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/@+%".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The DNS name of a database: `roach` and `roach.db.CLUSTER` alike.
pub(crate) fn dns_name(name: &str, cluster: &ClusterName) -> Result<String, Exit> {
    if let Some(found) = ResourceRef::from_dns_name(name, cluster) {
        return Ok(format!("{}.{}.{cluster}", found.label, found.kind));
    }
    let name = ResourceName::new(name).map_err(Exit::usage)?;
    Ok(format!("{}.{}.{cluster}", dns_label(&name), ResourceKind::Database))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Parameters {
        Parameters {
            host: "roach.db.example.com".into(),
            hostaddr: "192.0.2.1".into(),
            port: 443,
            user: Some("o'brien".into()),
            dbname: Some("my db".into()),
            sslmode: "verify-full",
            sslrootcert: "/h/cas.pem".into(),
            sslcert: "/h/tls.crt".into(),
            sslkey: "/h/tls.key".into(),
        }
    }

    #[test]
    fn values_are_quoted_as_libpq_reads_them() {
        assert_eq!(
            parameters().conninfo(),
            "host=roach.db.example.com hostaddr=192.0.2.1 port=443 user='o\\'brien' \
             dbname='my db' sslmode=verify-full sslrootcert=/h/cas.pem sslcert=/h/tls.crt \
             sslkey=/h/tls.key"
        );
        for (value, written) in [("", "''"), ("a\\b", "'a\\\\b'"), ("a=b", "'a=b'"), ("ä", "'ä'")]
        {
            assert_eq!(quoted(value), written);
        }
    }

    #[test]
    fn databases_are_named_as_people_do() {
        let cluster = ClusterName::new("example.com").unwrap();
        for text in ["roach", "roach.db.example.com"] {
            assert_eq!(dns_name(text, &cluster).unwrap(), "roach.db.example.com");
        }
        assert!(dns_name("", &cluster).is_err());
    }
}
