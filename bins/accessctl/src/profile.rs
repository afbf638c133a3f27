//! The logins that `access` keeps, read.
//!
//! ```text
//! current                  the proxy that was logged in to last
//! HOST_PORT/profile.json   proxy, cluster, user, pins
//! HOST_PORT/identity       everything, as an identity file
//! ```

use std::path::{Path, PathBuf};

use access_client::{Credentials, HostPort};
use access_core::ClusterName;
use access_daemon::{Exit, ExitCode};
use serde::Deserialize;

use crate::errors::client_exit;
use crate::files;

/// The part of a profile that matters here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Profile {
    /// The proxy.
    pub(crate) proxy: HostPort,
    /// The cluster.
    pub(crate) cluster: ClusterName,
}

/// The folder of all logins.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// The given folder, or `~/.access`.
    pub(crate) fn open(given: Option<PathBuf>) -> Result<Self, Exit> {
        given
            .or_else(|| std::env::home_dir().map(|home| home.join(".access")))
            .map(Self)
            .ok_or_else(|| Exit::failed("there is no home directory: set ACCESS_HOME"))
    }

    /// The profile of a proxy, or of the one that was logged in to last.
    pub(crate) fn profile(&self, proxy: Option<&HostPort>) -> Result<Option<Profile>, Exit> {
        let folder = match proxy {
            Some(proxy) => self.folder(proxy),
            None => match files::read_optional(&self.0.join("current"))? {
                Some(current) => self.folder(&proxy_address(current.trim())?),
                None => return Ok(None),
            },
        };
        let path = folder.join("profile.json");
        let Some(text) = files::read_optional(&path)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|err| Exit::failed(format!("{}: {err}", path.display())))
    }

    /// The credentials of a login.
    pub(crate) fn credentials(&self, profile: &Profile) -> Result<Credentials, Exit> {
        match files::read_optional(&self.folder(&profile.proxy).join("identity"))? {
            Some(text) => Credentials::from_identity_file(&text).map_err(client_exit),
            None => Err(Exit::new(
                ExitCode::NotLoggedIn,
                format!("not logged in: run access login --proxy={}", profile.proxy),
            )),
        }
    }

    fn folder(&self, proxy: &HostPort) -> PathBuf {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let name = proxy.to_string().replace(|c| !plain(c), "_");
        self.0.join(name)
    }
}

/// Reads `HOST[:PORT]` of a proxy.
pub(crate) fn proxy_address(text: &str) -> Result<HostPort, Exit> {
    HostPort::parse(text, 3080).map_err(Exit::usage)
}

/// Reads an identity file.
pub(crate) fn identity_file(path: &Path) -> Result<Credentials, Exit> {
    let text = files::read_optional(path)?
        .ok_or_else(|| Exit::failed(format!("there is no file {}", path.display())))?;
    Credentials::from_identity_file(&text)
        .map_err(|err| Exit::failed(format!("{}: {err}", path.display())))
}
