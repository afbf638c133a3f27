//! Where the cluster is that a command is about: a data directory here, or a service elsewhere.

use std::io;
use std::path::{Path, PathBuf};

use access_client::HostPort;
use access_daemon::{DEFAULT_DATA_DIR, Exit};
use auth_daemon::{DATABASE, SOCKET};

use crate::cli::Global;

/// The data directory of a quickstart that was started in this folder.
const QUICKSTART_DATA_DIR: &str = "access-data";

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) proxy: Option<String>,
    pub(crate) identity: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
}

impl Environment {
    /// This process's.
    pub(crate) fn current() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            proxy: variable("ACCESS_PROXY").and_then(|value| value.into_string().ok()),
            identity: variable("ACCESS_IDENTITY").map(PathBuf::from),
            home: variable("ACCESS_HOME").map(PathBuf::from),
        }
    }
}

/// Where the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a data directory of this machine: no login is needed.
    Here(PathBuf),
    /// Elsewhere.
    Elsewhere(Remote),
}

/// How a service elsewhere is reached, as far as flags and environment say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Auth's own addresses, one for each replica.
    pub(crate) auth_servers: Vec<HostPort>,
    /// A proxy's.
    pub(crate) proxy: Option<HostPort>,
    /// The identity file to use instead of a login.
    pub(crate) identity: Option<PathBuf>,
    /// A data directory of this machine that this user may not look into.
    pub(crate) closed: Option<PathBuf>,
}

impl Place {
    /// Decides by flags first, then by the data directories that are here, then by environment.
    pub(crate) fn choose(global: &Global, environment: &Environment) -> Result<Self, Exit> {
        let read = |text: &String| HostPort::parse(text, 3025).map_err(Exit::usage);
        let auth_servers = global.auth_server.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let proxy = global.proxy.as_deref().map(access_daemon::parse_proxy).transpose()?;
        if global.config.is_some() && (!auth_servers.is_empty() || global.identity.is_some()) {
            return Err(Exit::usage(
                "--config is the Auth Service's on this host: leave out --auth-server and --identity",
            ));
        }
        if let Some(dir) = &global.data_dir {
            if !auth_servers.is_empty() || global.identity.is_some() {
                return Err(Exit::usage(
                    "--data-dir needs no login: leave out --auth-server and --identity",
                ));
            }
            return Ok(Self::Here(dir.clone()));
        }
        if !auth_servers.is_empty() && proxy.is_some() {
            return Err(Exit::usage("--auth-server and --proxy are two ways: choose one"));
        }
        let mut remote =
            Remote { auth_servers, proxy, identity: global.identity.clone(), closed: None };
        if remote == Remote::default() {
            for dir in [QUICKSTART_DATA_DIR, DEFAULT_DATA_DIR].map(Path::new) {
                match holds_cluster(dir) {
                    Ok(true) => return Ok(Self::Here(dir.to_owned())),
                    Ok(false) => {}
                    Err(_) => remote.closed = Some(dir.to_owned()),
                }
            }
        }
        if remote.identity.is_none() {
            remote.identity.clone_from(&environment.identity);
        }
        if remote.proxy.is_none() && remote.auth_servers.is_empty() {
            remote.proxy =
                environment.proxy.as_deref().map(access_daemon::parse_proxy).transpose()?;
        }
        Ok(Self::Elsewhere(remote))
    }
}

/// Whether a directory is an Auth Service's; an error when that cannot be seen.
pub(crate) fn holds_cluster(dir: &Path) -> io::Result<bool> {
    for name in [SOCKET, DATABASE] {
        match std::fs::symlink_metadata(dir.join(name)) {
            Ok(_) => return Ok(true),
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => return Err(err),
            Err(_) => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere(global: &Global, environment: &Environment) -> Remote {
        match Place::choose(global, environment).unwrap() {
            Place::Elsewhere(remote) => remote,
            here => panic!("{here:?}"),
        }
    }

    #[test]
    fn flags_decide_before_the_environment() {
        let environment =
            Environment { proxy: Some("env.example".into()), ..Environment::default() };
        let global = Global { proxy: Some("flag.example".into()), ..Global::default() };
        let proxy = elsewhere(&global, &environment).proxy.unwrap();
        assert_eq!(proxy.to_string(), "flag.example:3080");
        let global = Global {
            auth_server: vec!["auth.example".into(), "[::1]:1".into()],
            ..Global::default()
        };
        let remote = elsewhere(&global, &environment);
        let all: Vec<_> = remote.auth_servers.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["auth.example:3025", "[::1]:1"]);
        assert_eq!(remote.proxy, None);
    }

    #[test]
    fn a_data_directory_takes_no_login_but_a_proxy_for_links() {
        let dir = PathBuf::from("/somewhere");
        let mut global = Global {
            data_dir: Some(dir.clone()),
            proxy: Some("example.com:443".into()),
            ..Global::default()
        };
        let place = Place::choose(&global, &Environment::default()).unwrap();
        assert_eq!(place, Place::Here(dir));
        global.identity = Some("id".into());
        let err = Place::choose(&global, &Environment::default()).unwrap_err();
        assert_eq!(err.code(), access_daemon::ExitCode::Usage);
    }

    #[test]
    fn two_ways_are_one_too_many() {
        let global =
            Global { auth_server: vec!["a".into()], proxy: Some("b".into()), ..Global::default() };
        let err = Place::choose(&global, &Environment::default()).unwrap_err();
        assert_eq!(err.code(), access_daemon::ExitCode::Usage);
    }
}
