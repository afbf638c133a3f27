//! `ssh` and `scp` of this machine, told how to reach the cluster's nodes.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};

use access_core::ClusterName;
use access_core::identity::{Identity, SSH_IDENTITY_EXTENSION};
use access_daemon::Exit;

use crate::cli::Global;
use crate::context::Session;
use crate::openssh::{config, node_dns_name, split_login};

/// Flags of `ssh` that take a value.
const SSH_VALUED: &str = "BbcDEeFIiJLlmOopPQRSWw";
/// Flags of `scp` that take a value.
const SCP_VALUED: &str = "cDFiJloPSX";

pub(crate) async fn ssh(global: &Global, mut args: Vec<String>) -> Result<ExitCode, Exit> {
    let session = Session::open(global)?;
    let at = destination(&args, SSH_VALUED)
        .ok_or_else(|| Exit::usage("which node? say access ssh [LOGIN@]NODE"))?;
    let explicit = args.iter().take(at).any(|arg| arg.starts_with("-l"));
    if let Some(target) = args.get_mut(at) {
        let (login, node) = split_login(target);
        let name = node_dns_name(node, &session.credentials.cluster)?;
        *target = match login
            .map(str::to_owned)
            .or_else(|| (!explicit).then(|| default_login(&session)).flatten())
        {
            Some(login) => format!("{login}@{name}"),
            None => name,
        };
    }
    // What follows the destination is the command: ssh must not read it as flags.
    run("ssh", &session, args)
}

pub(crate) async fn scp(global: &Global, mut args: Vec<String>) -> Result<ExitCode, Exit> {
    let session = Session::open(global)?;
    let mut skip = false;
    let mut remote = false;
    for arg in &mut args {
        if std::mem::take(&mut skip) {
            continue;
        }
        if arg.starts_with('-') {
            skip = takes_next(arg, SCP_VALUED);
            continue;
        }
        if let Some(rewritten) =
            remote_path(arg, &session.credentials.cluster, || default_login(&session))?
        {
            *arg = rewritten;
            remote = true;
        }
    }
    if !remote {
        return Err(Exit::usage("no node is named: say access scp FILE [LOGIN@]NODE:PATH"));
    }
    run("scp", &session, args)
}

/// `[LOGIN@]NODE:PATH` with the node's DNS name; `None` for a path on this machine.
fn remote_path(
    arg: &str,
    cluster: &ClusterName,
    login: impl FnOnce() -> Option<String>,
) -> Result<Option<String>, Exit> {
    let Some((host, path)) = arg.split_once(':') else { return Ok(None) };
    if host.contains('/') || host.is_empty() {
        return Ok(None);
    }
    let (given, node) = split_login(host);
    let name = node_dns_name(node, cluster)?;
    Ok(Some(match given.map(str::to_owned).or_else(login) {
        Some(login) => format!("{login}@{name}:{path}"),
        None => format!("{name}:{path}"),
    }))
}

/// The user's own name here, if the certificate allows it; else the only login that it allows.
fn default_login(session: &Session) -> Option<String> {
    let document = session.credentials.ssh_certificate.extensions().get(SSH_IDENTITY_EXTENSION)?;
    let logins = Identity::decode(document.as_bytes()).ok()?.logins;
    let local = std::env::var("USER").unwrap_or_default();
    if logins.iter().any(|login| login.as_str() == local) {
        return Some(local);
    }
    match logins.as_slice() {
        [only] => Some(only.to_string()),
        _ => None,
    }
}

/// The first argument that is neither a flag nor a flag's value.
fn destination(args: &[String], valued: &str) -> Option<usize> {
    let mut skip = false;
    for (at, arg) in args.iter().enumerate() {
        if std::mem::take(&mut skip) {
            continue;
        }
        if arg.len() > 1 && arg.starts_with('-') {
            skip = takes_next(arg, valued);
        } else {
            return Some(at);
        }
    }
    None
}

/// Whether a cluster of flags, such as `-tL`, ends with one whose value is the next argument.
fn takes_next(arg: &str, valued: &str) -> bool {
    let mut flags = arg.chars().skip(1);
    match flags.find(|flag| valued.contains(*flag)) {
        // Its value, if anything is left, stands in the same argument.
        Some(_) => flags.next().is_none(),
        None => false,
    }
}

fn run(program: &str, session: &Session, args: Vec<String>) -> Result<ExitCode, Exit> {
    let (folder, temporary) = session.openssh_files()?;
    let mut settings = config(&folder, &session.proxy, &session.credentials.cluster)?;
    let identity = folder.join("identity");
    if temporary.is_some() {
        // The ProxyCommand is a process of its own, which needs the identity too.
        let file = session.credentials.to_identity_file().map_err(Exit::failed)?;
        crate::profile::write_private(&identity, file.as_bytes())?;
        let flag = format!("--identity \"{}\" proxy ssh", identity.display());
        settings = settings.replacen("proxy ssh", &flag, 1);
    }
    let file = folder.join("ssh_config");
    crate::profile::write_private(&file, settings.as_bytes())?;
    let status = Command::new(program)
        .arg("-F")
        .arg(&file)
        .args(args)
        .stdin(Stdio::inherit())
        .status()
        .map_err(|err| match err.kind() {
            std::io::ErrorKind::NotFound => {
                Exit::failed(format!("{program} is not installed here: install OpenSSH's client"))
            }
            _ => Exit::failed(format!("cannot start {program}: {err}")),
        })?;
    drop(temporary);
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(args: &[&str]) -> Option<usize> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        destination(&args, SSH_VALUED)
    }

    #[test]
    fn the_destination_is_found_behind_flags() {
        assert_eq!(at(&["web"]), Some(0));
        assert_eq!(at(&["-t", "web", "-x"]), Some(1));
        assert_eq!(at(&["-L", "1:a:2", "web"]), Some(2));
        assert_eq!(at(&["-L1:a:2", "web"]), Some(1));
        assert_eq!(at(&["-tL", "1:a:2", "web"]), Some(2));
        assert_eq!(at(&["-o", "X=y"]), None);
    }

    #[test]
    fn only_remote_paths_are_rewritten() {
        let cluster = ClusterName::new("example.com").unwrap();
        let path = |arg: &str| remote_path(arg, &cluster, || Some("root".into())).unwrap();
        assert_eq!(path("web:/x").unwrap(), "root@web.node.example.com:/x");
        assert_eq!(path("bob@web:").unwrap(), "bob@web.node.example.com:");
        assert_eq!(path("./a:b"), None);
        assert_eq!(path("plain"), None);
    }
}
