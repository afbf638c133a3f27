//! What the SSH library calls for a jump host.

use std::sync::Arc;

use access_core::VerifiedIdentity;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect};
use ssh_key::Certificate;
use tokio::sync::oneshot;

use super::Parts;
use super::lead::{Jump, jump};
use crate::auth::{Account, Attempts, Verdict};
use crate::channel::{Channels, refusal};
use crate::connection::{Connection, EndOfTime, Ended};

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

    /// When the connection's certificate expires, or the last thing that ran over it was
    /// withdrawn. What runs over it has permits of its own.
    fn end_of(&self, who: &VerifiedIdentity) -> EndOfTime {
        let expires = self.parts.checker.clock.sleep_until(who.validity().not_after());
        let connection = Arc::clone(&self.connection);
        Box::pin(async move {
            tokio::select! {
                () = expires => Ended {
                    reason: "certificate expired",
                    text: "your certificate has expired: log in again".into(),
                },
                ended = connection.withdrawn() => ended,
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
