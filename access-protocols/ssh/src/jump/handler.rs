//! What the SSH library calls for a jump host.

use std::sync::Arc;

use access_core::ids::ResourceName;
use access_core::policy::{Action, Context, Target};
use access_core::resource::Labels;
use access_core::{ClusterName, HostId, Resource, ResourceRef, VerifiedIdentity};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect};
use ssh_key::Certificate;
use tokio::sync::oneshot;

use super::Parts;
use crate::auth::{Account, Attempts, Verdict};
use crate::channel::{Channels, Ends, Writer, refusal};
use crate::connection::{Connection, EndOfTime, Ended};
use crate::pipe::{self, Counters};

/// What people see who forget the `-J`.
const NO_SESSIONS: &str =
    "this is a jump host and has no sessions: use ssh -J THIS_HOST LOGIN@NODE";

pub(super) struct JumpHandler {
    parts: Arc<Parts>,
    connection: Arc<Connection>,
    attempts: Attempts,
    stage: Stage,
    authenticated: Option<oneshot::Sender<EndOfTime>>,
    channels: Channels,
}

enum Stage {
    Stranger,
    /// Known, but not welcome; the text says why.
    Refused(String),
    Welcome(Arc<VerifiedIdentity>),
}

impl JumpHandler {
    pub(super) fn new(
        parts: Arc<Parts>,
        connection: Arc<Connection>,
        attempts: Attempts,
        authenticated: oneshot::Sender<EndOfTime>,
    ) -> Self {
        Self {
            parts,
            connection,
            attempts,
            stage: Stage::Stranger,
            authenticated: Some(authenticated),
            channels: Channels::default(),
        }
    }

    /// When the connection's certificate expires. What runs over it has permits of its own.
    fn end_of(&self, who: &VerifiedIdentity) -> EndOfTime {
        let expires = self.parts.checker.clock.sleep_until(who.validity().not_after());
        Box::pin(async move {
            expires.await;
            Ended {
                reason: "certificate expired",
                text: "your certificate has expired: log in again".into(),
            }
        })
    }
}

impl Handler for JumpHandler {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        self.attempts.began(user);
        Ok(Auth::reject())
    }

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        _offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        // The bare key of a certificate looks like a plain one here: neither is judged yet.
        Ok(Auth::Accept)
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.attempts.plain_key(user, key.public_key))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        self.stage = match self.attempts.certificate(certificate, Account::Any(user)).await {
            Verdict::Stranger => return Ok(Auth::reject()),
            Verdict::Known(text) => Stage::Refused(text),
            Verdict::Verified(who) => Stage::Welcome(Arc::new(*who)),
        };
        Ok(Auth::Accept)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        self.attempts.began(user);
        Ok(self.attempts.explain(response.is_some()))
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        match &self.stage {
            Stage::Welcome(who) => {
                let end = self.end_of(who);
                if let Some(authenticated) = self.authenticated.take() {
                    // Nobody waits any more only when the connection is over.
                    let _ = authenticated.send(end);
                }
                Ok(())
            }
            Stage::Refused(text) => {
                session.disconnect(Disconnect::NoMoreAuthMethodsAvailable, text, "")
            }
            Stage::Stranger => {
                session.disconnect(Disconnect::NoMoreAuthMethodsAvailable, "access denied", "")
            }
        }
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let code = ChannelOpenFailure::AdministrativelyProhibited.code();
        reply.reject(refusal(code, NO_SESSIONS.into())).await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Stage::Welcome(who) = &self.stage else { return Ok(()) };
        if self.channels.count().0 >= self.parts.options.max_channels {
            let code = ChannelOpenFailure::ResourceShortage.code();
            reply.reject(refusal(code, "too many channels".into())).await;
            return Ok(());
        }
        let ends = self.channels.open(&self.connection.link, channel.id());
        let (_, writer) = channel.split();
        let request = Jump {
            parts: Arc::clone(&self.parts),
            connection: Arc::clone(&self.connection),
            who: Arc::clone(who),
            host: host.to_owned(),
            writer,
            ends,
            reply,
        };
        self.connection.tasks.spawn(jump(request));
        Ok(())
    }

    async fn data(
        &mut self,
        id: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(channel) = self.channels.get(id) {
            channel.data(data);
        }
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        id: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(channel) = self.channels.get(id) {
            channel.eof();
        }
        Ok(())
    }

    async fn channel_close(
        &mut self,
        id: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.close(id);
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        self.connection.link.window()
    }
}

impl Drop for JumpHandler {
    fn drop(&mut self) {
        self.attempts.finish(&self.connection.tasks);
    }
}

/// A channel to a node.
struct Jump {
    parts: Arc<Parts>,
    connection: Arc<Connection>,
    who: Arc<VerifiedIdentity>,
    host: String,
    writer: Writer,
    ends: Ends,
    reply: ChannelOpenHandle,
}

async fn jump(jump: Jump) {
    let Jump { parts, connection, who, host, writer, ends, reply } = jump;
    let failed = ChannelOpenFailure::ConnectFailed.code();
    let cluster = (parts.checker.trust)().cluster().clone();
    let name = node_name(&host, &cluster);
    let found = name.and_then(|name| parts.directory.find(name));
    // What is not there is asked for all the same: it takes as long, and is written down.
    let node = match (&found, name.and_then(|name| ResourceName::new(name).ok())) {
        (Some(node), _) => node.clone(),
        (None, Some(name)) => match absent(name) {
            Some(node) => node,
            None => return drop(reply),
        },
        (None, None) => return reply.reject(refusal(failed, unknown(&host))).await,
    };
    let context = Context {
        client_addr: connection.client_addr.map(|addr| addr.ip().to_canonical()),
        trace_id: Some(connection.trace_id.clone()),
    };
    let permit = parts.gate.authorize(&who, Action::See, Target::Resource(node), context).await;
    let (Ok(permit), true) = (permit, found.is_some()) else {
        return reply.reject(refusal(failed, unknown(&host))).await;
    };
    let dialled = tokio::select! {
        dialled = parts.reach.dial(&permit) => dialled,
        _ = connection.over() => return,
    };
    let stream = match dialled {
        Ok(stream) => stream,
        Err(err) => return reply.reject(refusal(failed, format!("{host}: {err}"))).await,
    };
    reply.accept().await;
    let counters = Counters::default();
    let copied = tokio::select! {
        copied = pipe::copy(stream, &writer, &ends, &counters, || ()) => copied,
        _ = connection.over() => Ok(()),
    };
    tracing::debug!(
        user = who.name(), node = host, tx = counters.tx(), rx = counters.rx(), ?copied,
        "a jump has ended"
    );
    let _ = writer.close().await;
}

/// The same for what is not there and for what this user may not see.
fn unknown(host: &str) -> String {
    let host: String = host.chars().filter(|c| !c.is_control()).take(255).collect();
    format!("{host}: no such node, or no access to it")
}

/// The node in `web-1` or `web-1.node.CLUSTER`.
fn node_name<'a>(host: &'a str, cluster: &ClusterName) -> Option<&'a str> {
    if host.is_empty() || host.len() > 255 {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let short = host
        .strip_suffix(cluster.as_str())
        .and_then(|rest| rest.strip_suffix(".node."));
    Some(short.unwrap_or(host))
}

/// A node that no agent has.
fn absent(name: ResourceName) -> Option<Resource> {
    let host = HostId::new("none").ok()?;
    Some(Resource { id: ResourceRef::node(name), labels: Labels::new(), host })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_shortly_or_in_full() {
        let cluster = ClusterName::new("example.com").unwrap();
        for (host, name) in [
            ("web-1", Some("web-1")),
            ("web-1.node.example.com", Some("web-1")),
            ("web-1.node.example.com.", Some("web-1")),
            ("web-1.node.example.org", Some("web-1.node.example.org")),
            ("db.example.com", Some("db.example.com")),
            ("", None),
        ] {
            assert_eq!(node_name(host, &cluster), name, "{host}");
        }
    }
}
