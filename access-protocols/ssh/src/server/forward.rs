//! Forwarding: connections from the node on behalf of the client, and those that are refused.

use std::sync::Arc;

use access_core::audit::events::{Port, PortCode};
use access_core::audit::{Durability, Text};
use access_core::gate::Denied;
use access_core::policy::Action;
use russh::ChannelOpenFailure;
use russh::server::ChannelOpenHandle;

use super::Parts;
use super::guest::Guest;
use crate::channel::{Ends, Writer, refusal};
use crate::connection::Connection;
use crate::pipe::{self, Counters};

/// The longest host name that is looked at (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 255;

/// A channel that the client asked to be connected with an address.
pub(super) struct Request {
    pub(super) parts: Arc<Parts>,
    pub(super) connection: Arc<Connection>,
    pub(super) guest: Arc<Guest>,
    pub(super) host: String,
    pub(super) port: u32,
    pub(super) writer: Writer,
    pub(super) ends: Ends,
    pub(super) reply: ChannelOpenHandle,
}

/// `ssh -L`, `-W`, `-D`: dials the address and copies until either side is done.
pub(super) async fn local(request: Request) {
    let Request { parts, connection, guest, host, port, writer, ends, reply } = request;
    let addr: Text<512> = address(&host, port);
    let event = |code, counters: Option<&Counters>, error: Option<String>| {
        let addr = addr.clone();
        let sums = counters.map(|counters| (counters.tx(), counters.rx()));
        move |session| Port {
            code,
            session,
            addr,
            forward: Some("local".into()),
            tx: sums.map(|sums| sums.0),
            rx: sums.map(|sums| sums.1),
            error: error.map(Into::into),
        }
    };
    let reached = async {
        let port = u16::try_from(port).ok().filter(|port| *port != 0);
        let Some(port) = port.filter(|_| !host.is_empty() && host.len() <= MAX_HOST) else {
            return Err((ChannelOpenFailure::ConnectFailed.code(), "no such address".to_owned()));
        };
        let login = guest.login.clone();
        let action = Action::SshForward { login, host: host.clone(), port };
        let permit = parts
            .gate
            .authorize_within(&guest.permit, action)
            .await
            .map_err(|denied| prohibited(&denied))?;
        let stream = parts
            .reach
            .dial(&permit)
            .await
            .map_err(|err| (ChannelOpenFailure::ConnectFailed.code(), err.to_string()))?;
        let started = event(PortCode::Started, None, None)(guest.journal.context().clone());
        match guest.journal.write(started, Durability::Soon).await {
            Ok(()) => Ok(stream),
            Err(err) => {
                tracing::warn!(%err, "a connection is not forwarded");
                let why = "the audit log cannot be written".to_owned();
                Err((ChannelOpenFailure::ResourceShortage.code(), why))
            }
        }
    };
    let reached = tokio::select! {
        reached = reached => reached,
        _ = connection.over() => return,
    };
    let stream = match reached {
        Ok(stream) => stream,
        Err((code, why)) => {
            guest.journal.note(event(PortCode::Failed, None, Some(why.clone()))).await;
            return reply.reject(refusal(code, why)).await;
        }
    };
    reply.accept().await;
    let counters = Counters::default();
    let copied = tokio::select! {
        copied = pipe::copy(stream, &writer, &ends, &counters, || guest.permit.touch()) => copied,
        _ = connection.over() => Ok(()),
    };
    let error = copied.err().map(|err| err.to_string());
    guest.journal.note(event(PortCode::Stopped, Some(&counters), error)).await;
    let _ = writer.close().await;
}

fn prohibited(denied: &Denied) -> (u32, String) {
    (ChannelOpenFailure::AdministrativelyProhibited.code(), denied.public())
}

/// `ssh -R`: nothing listens on the node for clients. Asked for without the permission, it is
/// refused for that reason.
pub(super) async fn refuse_listening(parts: &Parts, guest: &Guest, host: &str, port: u32) {
    let login = guest.login.clone();
    let action = Action::SshListen {
        login,
        host: host.chars().take(MAX_HOST).collect(),
        port: u16::try_from(port).unwrap_or(0),
    };
    let why = match parts.gate.authorize_within(&guest.permit, action).await {
        Ok(_) => "nodes do not listen for clients: forward from a machine that does".to_owned(),
        Err(denied) => denied.to_string(),
    };
    guest
        .journal
        .note(|session| Port {
            code: PortCode::Failed,
            session,
            addr: address(host, port),
            forward: Some("remote".into()),
            tx: None,
            rx: None,
            error: Some(why.into()),
        })
        .await;
}

fn address(host: &str, port: u32) -> Text<512> {
    if host.contains(':') {
        Text::of(format_args!("[{host}]:{port}"))
    } else {
        Text::of(format_args!("{host}:{port}"))
    }
}
