//! Who is logged in.

use access_core::Login;
use access_core::identity::{Identity, SSH_IDENTITY_EXTENSION};
use access_daemon::{Exit, OutputFormat, print, print_value};
use serde::Serialize;

use crate::cli::Global;
use crate::context::{Session, clock};
use access_daemon::client_exit;

#[derive(Serialize)]
struct Status {
    proxy: String,
    cluster: String,
    user: String,
    roles: Vec<String>,
    logins: Vec<String>,
    valid_until: String,
    expired: bool,
}

pub(crate) fn status(global: &Global, format: OutputFormat) -> Result<(), Exit> {
    let session = Session::open_unchecked(global)?;
    let certificate = &session.credentials.ssh_certificate;
    let document = certificate.extensions().get(SSH_IDENTITY_EXTENSION);
    let document = document.ok_or_else(|| Exit::failed("the certificate carries no identity"))?;
    let identity = Identity::decode(document.as_bytes()).map_err(Exit::failed)?;
    let now = clock().now();
    let check = session.credentials.check(now);
    let status = Status {
        proxy: session.proxy.to_string(),
        cluster: identity.cluster.to_string(),
        user: identity.subject.name().to_owned(),
        roles: identity.roles.iter().map(ToString::to_string).collect(),
        logins: identity.logins.iter().map(Login::to_string).collect(),
        valid_until: session.credentials.validity.not_after().to_string(),
        expired: now >= session.credentials.validity.not_after(),
    };
    match format {
        OutputFormat::Text => print(&format!(
            "Proxy:       {}\nCluster:     {}\nUser:        {}\nRoles:       {}\n\
             Logins:      {}\nValid until: {}{}\n",
            status.proxy,
            status.cluster,
            status.user,
            status.roles.join(", "),
            status.logins.join(", "),
            status.valid_until,
            match (&check, status.expired) {
                (Ok(()), _) => "",
                (Err(_), true) => " (expired)",
                (Err(_), false) => " (not yet valid)",
            },
        ))?,
        _ => print_value(&status, format)?,
    }
    check.map_err(client_exit)
}
