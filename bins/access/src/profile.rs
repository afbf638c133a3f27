//! Where logins are kept: `~/.access`, one folder a proxy.
//!
//! ```text
//! current                  the proxy that was logged in to last
//! HOST_PORT/profile.json   proxy, cluster, user, pins
//! HOST_PORT/identity       everything, as an identity file
//! HOST_PORT/ssh_key, ssh_key-cert.pub, known_hosts, ssh_config   for OpenSSH
//! HOST_PORT/tls.key, tls.crt, cas.pem                             for other programs
//! ```

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use access_client::{Credentials, HostPort};
use access_core::ClusterName;
use access_core::identity::SpkiPin;
use access_daemon::{Exit, ExitCode};
use serde::{Deserialize, Serialize};

/// What is remembered of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Its proxy.
    pub(crate) proxy: HostPort,
    /// Its name.
    pub(crate) cluster: ClusterName,
    /// Who is logged in.
    pub(crate) user: String,
    /// Its key, as it was pinned or seen.
    pub(crate) ca_pins: Vec<SpkiPin>,
}

/// The folder of all logins.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

impl Home {
    /// The given folder, or `~/.access`.
    pub(crate) fn open(given: Option<PathBuf>) -> Result<Self, Exit> {
        match given.or_else(|| std::env::home_dir().map(|home| home.join(".access"))) {
            Some(path) => Ok(Self(path)),
            None => Err(Exit::failed("there is no home directory: set ACCESS_HOME")),
        }
    }

    /// The folder of a proxy.
    pub(crate) fn folder(&self, proxy: &HostPort) -> PathBuf {
        let name: String = proxy
            .to_string()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' })
            .collect();
        self.0.join(name)
    }

    /// The profile of a proxy, or of the one that was logged in to last.
    pub(crate) fn profile(&self, proxy: Option<&HostPort>) -> Result<Option<Profile>, Exit> {
        let folder = match proxy {
            Some(proxy) => self.folder(proxy),
            None => match read(&self.0.join("current"))? {
                Some(current) => self.folder(&parse_proxy(current.trim())?),
                None => return Ok(None),
            },
        };
        let path = folder.join("profile.json");
        let Some(text) = read(&path)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|err| Exit::failed(format!("{}: {err}", path.display())))
    }

    /// Remembers a cluster and makes it the current one.
    pub(crate) fn save_profile(&self, profile: &Profile) -> Result<(), Exit> {
        let folder = self.folder(&profile.proxy);
        make_private(&folder)?;
        let text = serde_json::to_string_pretty(profile).map_err(Exit::failed)?;
        write_private(&folder.join("profile.json"), text.as_bytes())?;
        write_private(&self.0.join("current"), profile.proxy.to_string().as_bytes())
    }

    /// Keeps the credentials of a login.
    pub(crate) fn save(&self, profile: &Profile, credentials: &Credentials) -> Result<(), Exit> {
        self.save_profile(profile)?;
        let folder = self.folder(&profile.proxy);
        let file = credentials.to_identity_file().map_err(Exit::failed)?;
        write_private(&folder.join("identity"), file.as_bytes())?;
        crate::openssh::write_files(&folder, &profile.proxy, credentials)?;
        let tls = credentials.keys.tls.to_pem();
        write_private(&folder.join("tls.key"), tls.as_bytes())?;
        write_private(&folder.join("tls.crt"), credentials.tls_chain_pem().as_bytes())?;
        write_private(&folder.join("cas.pem"), credentials.host_roots_pem().as_bytes())
    }

    /// The credentials of a login.
    pub(crate) fn credentials(&self, profile: &Profile) -> Result<Credentials, Exit> {
        match read(&self.folder(&profile.proxy).join("identity"))? {
            Some(text) => Credentials::from_identity_file(&text).map_err(Exit::failed),
            None => Err(Exit::new(
                ExitCode::NotLoggedIn,
                format!("not logged in: run access login --proxy={}", profile.proxy),
            )),
        }
    }

    /// Forgets a login; the cluster's pins stay.
    pub(crate) fn forget(&self, profile: &Profile) -> Result<(), Exit> {
        let folder = self.folder(&profile.proxy);
        for name in [
            "identity",
            "ssh_key",
            "ssh_key-cert.pub",
            "ssh_config",
            "known_hosts",
            "tls.key",
            "tls.crt",
            "cas.pem",
        ] {
            match fs::remove_file(folder.join(name)) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => {
                    return Err(Exit::failed(format!("cannot remove {name}: {err}")));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads `HOST[:PORT]`; the port is 3080 by default, as the proxy's.
pub(crate) fn parse_proxy(text: &str) -> Result<HostPort, Exit> {
    HostPort::parse(text, 3080).map_err(Exit::usage)
}

/// Reads a file that may not be there.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Exit> {
    let error = |err: io::Error| Exit::failed(format!("cannot read {}: {err}", path.display()));
    match fs::metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(error(err)),
        Ok(metadata) if metadata.len() > MAX_FILE => {
            return Err(error(io::Error::other("it is larger than 1 MiB")));
        }
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(error)
}

/// Makes a folder for its owner alone.
pub(crate) fn make_private(path: &Path) -> Result<(), Exit> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|err| Exit::failed(format!("cannot make {}: {err}", path.display())))
}

/// Writes a file for its owner alone, whole or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), Exit> {
    let error = |err: io::Error| Exit::failed(format!("cannot write {}: {err}", path.display()));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(error)?;
    file.write_all(content).map_err(error)?;
    drop(file);
    fs::rename(&temporary, path).map_err(error)
}
