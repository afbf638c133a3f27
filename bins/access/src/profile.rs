//! Logins, written: see [`access_daemon::Home`] for what is where.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use access_client::Credentials;
use access_daemon::{Exit, Home, Profile};

/// Remembers a cluster and makes it the current one.
pub(crate) fn save_profile(home: &Home, profile: &Profile) -> Result<(), Exit> {
    let folder = home.folder(&profile.proxy);
    make_private(&folder)?;
    let text = serde_json::to_string_pretty(profile).map_err(Exit::failed)?;
    write_private(&folder.join("profile.json"), text.as_bytes())?;
    write_private(&home.current(), profile.proxy.to_string().as_bytes())
}

/// Keeps the credentials of a login.
pub(crate) fn save(home: &Home, profile: &Profile, credentials: &Credentials) -> Result<(), Exit> {
    save_profile(home, profile)?;
    let folder = home.folder(&profile.proxy);
    let file = credentials.to_identity_file().map_err(Exit::failed)?;
    write_private(&folder.join("identity"), file.as_bytes())?;
    crate::openssh::write_files(&folder, &profile.proxy, credentials)?;
    write_tls_files(&folder, credentials)
}

/// Writes `tls.key`, `tls.crt` and `cas.pem` into a folder.
pub(crate) fn write_tls_files(folder: &Path, credentials: &Credentials) -> Result<(), Exit> {
    let key = credentials.keys.tls.to_pem();
    write_private(&folder.join("tls.key"), key.as_bytes())?;
    write_private(&folder.join("tls.crt"), credentials.tls_chain_pem().as_bytes())?;
    write_private(&folder.join("cas.pem"), credentials.host_roots_pem().as_bytes())
}

/// Forgets a login; the cluster's pins stay.
pub(crate) fn forget(home: &Home, profile: &Profile) -> Result<(), Exit> {
    let folder = home.folder(&profile.proxy);
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
