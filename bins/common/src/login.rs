//! Where users' logins are kept: `~/.access`, one folder a proxy.
//!
//! ```text
//! current                  the proxy that was logged in to last
//! HOST_PORT/profile.json   proxy, cluster, user, pins
//! HOST_PORT/identity       everything, as an identity file
//! HOST_PORT/ssh_key, ssh_key-cert.pub, known_hosts, ssh_config   for OpenSSH
//! HOST_PORT/tls.key, tls.crt, cas.pem                             for other programs
//! ```
//!
//! `access` writes it; every tool reads it, here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use access_client::{ClientError, Credentials, HostPort};
use access_core::ClusterName;
use access_core::identity::SpkiPin;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, ExitCode};

/// What is remembered of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Profile {
    /// Its proxy.
    pub proxy: HostPort,
    /// Its name.
    pub cluster: ClusterName,
    /// Who is logged in.
    pub user: String,
    /// Its key, as it was pinned or seen.
    pub ca_pins: Vec<SpkiPin>,
}

/// The folder of all logins.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

impl Home {
    /// The given folder, or `~/.access`.
    ///
    /// # Errors
    /// [`Exit`] when neither is there to be used.
    pub fn open(given: Option<PathBuf>) -> Result<Self, Exit> {
        match given.or_else(|| std::env::home_dir().map(|home| home.join(".access"))) {
            Some(path) => Ok(Self(path)),
            None => Err(Exit::failed("there is no home directory: set ACCESS_HOME")),
        }
    }

    /// The file that names the proxy that was logged in to last.
    pub fn current(&self) -> PathBuf {
        self.0.join("current")
    }

    /// The folder of a proxy.
    pub fn folder(&self, proxy: &HostPort) -> PathBuf {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        self.0.join(proxy.to_string().replace(|c| !plain(c), "_"))
    }

    /// The profile of a proxy, or of the one that was logged in to last.
    ///
    /// # Errors
    /// [`Exit`] when it is there and cannot be read.
    pub fn profile(&self, proxy: Option<&HostPort>) -> Result<Option<Profile>, Exit> {
        let folder = match proxy {
            Some(proxy) => self.folder(proxy),
            None => match read_optional(&self.current())? {
                Some(current) => self.folder(&parse_proxy(current.trim())?),
                None => return Ok(None),
            },
        };
        let path = folder.join("profile.json");
        let Some(text) = read_optional(&path)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|err| Exit::failed(format!("{}: {err}", path.display())))
    }

    /// The credentials of a login.
    ///
    /// # Errors
    /// [`ExitCode::NotLoggedIn`] when there are none.
    pub fn credentials(&self, profile: &Profile) -> Result<Credentials, Exit> {
        let path = self.folder(&profile.proxy).join("identity");
        if read_optional(&path)?.is_none() {
            return Err(Exit::new(
                ExitCode::NotLoggedIn,
                format!("not logged in: run access login --proxy={}", profile.proxy),
            ));
        }
        identity_file(&path)
    }
}

/// Reads `HOST[:PORT]`; the port is 3080 by default, as the proxy's.
///
/// # Errors
/// [`ExitCode::Usage`].
pub fn parse_proxy(text: &str) -> Result<HostPort, Exit> {
    HostPort::parse(text, 3080).map_err(Exit::usage)
}

/// Reads an identity file.
///
/// # Errors
/// [`Exit`] when there is none, or it holds none.
pub fn identity_file(path: &Path) -> Result<Credentials, Exit> {
    let text = read_optional(path)?
        .ok_or_else(|| Exit::failed(format!("there is no file {}", path.display())))?;
    Credentials::from_identity_file(&text).map_err(|err| {
        let exit = client_exit(err);
        Exit::new(exit.code(), format!("{}: {exit}", path.display()))
    })
}

/// An exit for an error of the client, or for the failure of a call.
pub fn client_exit(err: impl Into<ClientError>) -> Exit {
    use ClientError as E;
    let err = err.into();
    let code = match &err {
        E::Unreachable { .. } | E::WrongPeer { .. } => ExitCode::Unreachable,
        E::Unauthenticated(_) => ExitCode::NotLoggedIn,
        E::Denied(_) => ExitCode::Denied,
        _ => ExitCode::Failed,
    };
    Exit::new(code, err)
}

/// Reads a file that may not be there, up to 1 MiB.
pub fn read_optional(path: &Path) -> Result<Option<String>, Exit> {
    let error = |err: io::Error| Exit::failed(format!("cannot read {}: {err}", path.display()));
    let file = match File::open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(error)?,
    };
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(error)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(error(io::Error::other("it is larger than 1 MiB")));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_found_by_its_proxy_or_as_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().to_owned())).unwrap();
        assert!(home.profile(None).unwrap().is_none());
        let proxy = parse_proxy("[2001:db8::1]:443").unwrap();
        let folder = home.folder(&proxy);
        assert_eq!(folder.parent(), Some(dir.path()), "one folder, whatever the address");
        std::fs::create_dir_all(&folder).unwrap();
        let profile = Profile {
            proxy: proxy.clone(),
            cluster: ClusterName::new("example.com").unwrap(),
            user: "alice".into(),
            ca_pins: Vec::new(),
        };
        let text = serde_json::to_string(&profile).unwrap();
        std::fs::write(folder.join("profile.json"), text).unwrap();
        std::fs::write(home.current(), format!("{proxy}\n")).unwrap();
        for named in [None, Some(&proxy)] {
            assert_eq!(home.profile(named).unwrap().unwrap().user, "alice");
        }
        let missing = home.credentials(&profile).unwrap_err();
        assert_eq!(missing.code(), ExitCode::NotLoggedIn);
        std::fs::write(folder.join("identity"), "nonsense").unwrap();
        let err = home.credentials(&profile).unwrap_err().to_string();
        assert!(err.contains("identity"), "{err}");
        std::fs::write(folder.join("identity"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
        assert!(home.credentials(&profile).unwrap_err().to_string().contains("1 MiB"));
    }

    #[test]
    fn what_went_wrong_decides_the_exit_code() {
        for (err, code) in [
            (ClientError::Denied("no".into()), ExitCode::Denied),
            (ClientError::Unauthenticated("no".into()), ExitCode::NotLoggedIn),
            (ClientError::NotFound("no".into()), ExitCode::Failed),
        ] {
            assert_eq!(client_exit(err).code(), code);
        }
    }
}
