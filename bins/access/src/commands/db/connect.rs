//! Runs the client that a database's users have installed.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitCode;

use access_core::identity::{Identity, SSH_IDENTITY_EXTENSION};
use access_daemon::Exit;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::chosen;
use super::listen::PrivateSocket;
use super::target::{Login, Parameters};
use crate::cli::{DbTarget, Global};
use crate::context::Session;

pub(crate) async fn connect(
    global: &Global,
    target: DbTarget,
    args: Vec<String>,
) -> Result<ExitCode, Exit> {
    let session = Session::open(global)?;
    let login = chosen(&session, &target).await?;
    match login.protocol.as_str() {
        "cockroachdb" => match installed("cockroach") {
            Some(program) => cockroach(&session, &login, program, args).await,
            None => psql(&session, &login, args).await,
        },
        "postgres" => psql(&session, &login, args).await,
        other => Err(Exit::failed(format!(
            "{} speaks {other}, for which this version starts no client",
            login.name
        ))),
    }
}

/// The only database account that the certificate names, if it names one.
pub(crate) fn only_user(session: &Session) -> Option<String> {
    let document = session.credentials.ssh_certificate.extensions().get(SSH_IDENTITY_EXTENSION)?;
    let identity = Identity::decode(document.as_bytes()).ok()?;
    let mut users = identity.traits.get("db_users")?.iter();
    match (users.next(), users.next()) {
        (Some(only), None) if only != "*" => Some(only.clone()),
        _ => None,
    }
}

async fn psql(session: &Session, login: &Login, args: Vec<String>) -> Result<ExitCode, Exit> {
    let program = installed("psql").ok_or_else(|| {
        Exit::failed("psql is not installed here: install PostgreSQL's client (postgresql-client)")
    })?;
    let (folder, temporary) = session.tls_files()?;
    let cluster = &session.credentials.cluster;
    let parameters = Parameters::straight(login, cluster, &session.proxy, &folder).await?;
    let mut command = Command::new(program);
    command.arg(format!("--dbname={}", parameters.conninfo())).args(args);
    let code = run(command).await;
    drop(temporary);
    code
}

/// `cockroach sql` knows no `hostaddr`: it is given a socket that only this user can open.
async fn cockroach(
    session: &Session,
    login: &Login,
    program: PathBuf,
    args: Vec<String>,
) -> Result<ExitCode, Exit> {
    let socket = PrivateSocket::open(session, login).await?;
    let mut url = format!("postgresql://{}@/", percent(login.user.as_deref().unwrap_or_default()));
    url.push_str(&percent(login.database.as_deref().unwrap_or("defaultdb")));
    url.push_str(&format!("?host={}&port={}", percent(&socket.folder()), PrivateSocket::PORT));
    let mut command = Command::new(program);
    command.arg("sql").arg("--url").arg(url).args(args);
    tokio::select! {
        code = run(command) => code,
        ended = socket.serve() => Err(ended),
    }
}

/// Runs a client to its end. Ctrl-C is the client's: it cancels a query there.
async fn run(mut command: Command) -> Result<ExitCode, Exit> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let ignored = [SignalKind::interrupt(), SignalKind::quit()].map(signal);
    let status = command
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|err| Exit::failed(format!("cannot start {program}: {err}")))?;
    drop(ignored);
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Where a program is, if it can be found.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A part of a URL (RFC 3986, section 2.1).
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_urls_are_escaped() {
        assert_eq!(percent("a b/é@"), "a%20b%2F%C3%A9%40");
    }
}
