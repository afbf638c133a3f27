//! What stock OpenSSH needs: a key, its certificate, the authority, a configuration.

use std::path::{Path, PathBuf};

use access_client::{Credentials, HostPort};
use access_core::ClusterName;
use access_core::resource::{ResourceKind, dns_label};
use access_core::{ResourceName, ResourceRef};
use access_daemon::Exit;
use ssh_key::PublicKey;

use crate::profile::write_private;

/// Writes `ssh_key`, `ssh_key-cert.pub`, `known_hosts` and `ssh_config` into a folder.
pub(crate) fn write_files(
    folder: &Path,
    proxy: &HostPort,
    credentials: &Credentials,
) -> Result<(), Exit> {
    let key = credentials.keys.ssh_private_openssh().map_err(Exit::failed)?;
    write_private(&folder.join("ssh_key"), key.as_bytes())?;
    let certificate = credentials.ssh_certificate.to_openssh().map_err(Exit::failed)?;
    write_private(&folder.join("ssh_key-cert.pub"), format!("{certificate}\n").as_bytes())?;
    let known_hosts = known_hosts(proxy, credentials)?;
    write_private(&folder.join("known_hosts"), known_hosts.as_bytes())?;
    let config = config(folder, proxy, &credentials.cluster)?;
    write_private(&folder.join("ssh_config"), config.as_bytes())
}

/// The lines by which OpenSSH believes every host that the cluster's host authority signed.
fn known_hosts(proxy: &HostPort, credentials: &Credentials) -> Result<String, Exit> {
    let cluster = &credentials.cluster;
    let proxy = match proxy.port() {
        22 => proxy.host().to_owned(),
        port => format!("[{}]:{port}", proxy.host()),
    };
    let mut lines = String::new();
    for key in credentials.host_authority().flat_map(|authority| &authority.ssh) {
        let key = PublicKey::from(key.clone()).to_openssh().map_err(Exit::failed)?;
        let key = key.trim_end();
        lines
            .push_str(&format!("@cert-authority *.node.{cluster},proxy.{cluster},{proxy} {key}\n"));
    }
    Ok(lines)
}

/// The configuration, for a file of its own or for `Include`.
pub(crate) fn config(
    folder: &Path,
    proxy: &HostPort,
    cluster: &ClusterName,
) -> Result<String, Exit> {
    let program = own_program()?;
    let folder = std::path::absolute(folder).map_err(Exit::failed)?;
    let file = |name: &str| quoted(&folder.join(name));
    let common = format!(
        "    IdentityFile {key}\n    CertificateFile {certificate}\n    IdentitiesOnly yes\n    \
         IdentityAgent none\n    UserKnownHostsFile {known_hosts}\n    \
         GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n    \
         UpdateHostKeys no\n    CheckHostIP no\n",
        key = file("ssh_key")?,
        certificate = file("ssh_key-cert.pub")?,
        known_hosts = file("known_hosts")?,
    );
    let home = folder.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok(format!(
        "# Nodes of {cluster}, through {proxy}. Made by: access config\n\
         Host *.node.{cluster}\n    \
         ProxyCommand {program} --home {home} --proxy {proxy} proxy ssh %h\n{common}\n\
         # For ssh -J: the proxy as a jump host, with no other program.\n\
         Host proxy.{cluster}\n    HostName {host}\n    Port {port}\n    \
         HostKeyAlias proxy.{cluster}\n{common}",
        program = quoted(&program)?,
        home = quoted(&home)?,
        host = proxy.host(),
        port = proxy.port(),
    ))
}

/// The path that this program was called by: one program can carry several tools, told apart by
/// that name, so that a link must not be resolved.
fn own_program() -> Result<PathBuf, Exit> {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let found = if called.components().count() > 1 {
        std::path::absolute(&called).ok()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(&called)).find(|path| path.is_file())
    };
    match found.filter(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => std::env::current_exe()
            .map_err(|err| Exit::failed(format!("cannot find this program's own path: {err}"))),
    }
}

/// A path as OpenSSH's configuration takes it.
fn quoted(path: &Path) -> Result<String, Exit> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\n', '%', '\\']));
    match text {
        Some(text) => Ok(format!("\"{text}\"")),
        None => Err(Exit::failed(format!(
            "OpenSSH cannot be told of the path {}: it has a quote, a percent sign or a line feed",
            path.display()
        ))),
    }
}

/// The DNS name of a node: `web-1` and `web-1.node.CLUSTER` alike.
pub(crate) fn node_dns_name(node: &str, cluster: &ClusterName) -> Result<String, Exit> {
    if let Some(found) = ResourceRef::from_dns_name(node, cluster) {
        return Ok(format!("{}.{}.{cluster}", found.label, found.kind));
    }
    let name = ResourceName::new(node).map_err(Exit::usage)?;
    Ok(format!("{}.{}.{cluster}", dns_label(&name), ResourceKind::Node))
}

/// Splits `[LOGIN@]NODE`; the last `@` counts, since logins may be mail addresses.
pub(crate) fn split_login(text: &str) -> (Option<&str>, &str) {
    match text.rsplit_once('@') {
        Some((login, node)) => (Some(login), node),
        None => (None, text),
    }
}

/// A folder for the files of an identity, which goes with the value.
#[derive(Debug)]
pub(crate) struct TemporaryFiles {
    folder: PathBuf,
}

impl TemporaryFiles {
    /// Writes the files of credentials that are kept nowhere.
    pub(crate) fn write(proxy: &HostPort, credentials: &Credentials) -> Result<Self, Exit> {
        let mut random = [0; 16];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
            .map_err(|_| Exit::failed("the system gave no randomness"))?;
        let name = format!("access-{}", access_core::ids::uuid_text(random));
        let files = Self { folder: std::env::temp_dir().join(name).join("identity") };
        crate::profile::make_private(&files.folder)?;
        write_files(&files.folder, proxy, credentials)?;
        Ok(files)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for TemporaryFiles {
    fn drop(&mut self) {
        if let Some(parent) = self.folder.parent() {
            // They are in a folder for their owner alone; a failure leaves them there.
            let _ = std::fs::remove_dir_all(parent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_as_people_do() {
        let cluster = ClusterName::new("example.com").unwrap();
        for text in ["web-1", "web-1.node.example.com"] {
            assert_eq!(node_dns_name(text, &cluster).unwrap(), "web-1.node.example.com");
        }
        assert!(node_dns_name("-oProxyCommand=x", &cluster).is_err());
        assert_eq!(split_login("a@b@web"), (Some("a@b"), "web"));
    }
}
