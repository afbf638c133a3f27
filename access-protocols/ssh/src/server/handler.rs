//! What the SSH library calls: authentication, then channels and what is asked for in them.
//!
//! Nothing in here waits for a target. Whatever does runs in a task of its own, because these
//! calls hold up everything else on the connection.

use std::sync::Arc;

use access_core::Resource;
use access_core::policy::Action;
use access_core::protocol::Admission;
use access_core::reach::{Program, PtySize};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty, Sig};
use ssh_key::Certificate;
use tokio::sync::oneshot;

use super::events::{agent_refused, x11_refused};
use super::guest::{Guest, Stage, admit, end_of};
use super::{Parts, forward, session};
use crate::auth::{Account, Attempts, Verdict};
use crate::channel::{Channel as OpenChannel, Channels, refusal};
use crate::connection::{Connection, EndOfTime};

pub(crate) struct ServerHandler {
    parts: Arc<Parts>,
    connection: Arc<Connection>,
    node: Resource,
    attempts: Attempts,
    stage: Stage,
    /// The place among those who are not authenticated, until this client is.
    admission: Option<Admission>,
    authenticated: Option<oneshot::Sender<EndOfTime>>,
    channels: Channels,
}

impl ServerHandler {
    pub(crate) fn new(
        parts: Arc<Parts>,
        connection: Arc<Connection>,
        node: Resource,
        attempts: Attempts,
        admission: Admission,
        authenticated: oneshot::Sender<EndOfTime>,
    ) -> Self {
        Self {
            parts,
            connection,
            node,
            attempts,
            stage: Stage::Stranger,
            admission: Some(admission),
            authenticated: Some(authenticated),
            channels: Channels::default(),
        }
    }

    fn guest(&self) -> Option<Arc<Guest>> {
        match &self.stage {
            Stage::Welcome(guest) => Some(Arc::clone(guest)),
            Stage::Stranger | Stage::Refused(_) => None,
        }
    }

    /// Why another channel may not be opened, if so.
    async fn no_room(&mut self, guest: &Guest, for_session: bool) -> Option<ChannelOpenFailure> {
        let (all, sessions) = self.channels.count();
        let limit = guest.permit.grant().limits.max_sessions;
        if for_session
            && let Some(max) = limit
            && sessions >= usize::try_from(max).unwrap_or(usize::MAX)
        {
            let why = format!("{sessions} sessions are open, as many as the role allows");
            guest.journal.rejected(&why, Some(u64::from(max))).await;
            return Some(refusal(ChannelOpenFailure::ResourceShortage.code(), why));
        }
        (all >= self.parts.options.max_channels).then(|| {
            refusal(ChannelOpenFailure::ResourceShortage.code(), "too many channels".into())
        })
    }

    fn start(
        &mut self,
        id: ChannelId,
        program: Program,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let pending = self.channels.get(id).and_then(OpenChannel::start);
        let (Some(guest), Some(pending)) = (self.guest(), pending) else {
            return session.channel_failure(id);
        };
        // What goes wrong from here on is told on the channel's standard error, where people see
        // it, and by the exit status.
        session.channel_success(id)?;
        let start = session::Start {
            parts: Arc::clone(&self.parts),
            connection: Arc::clone(&self.connection),
            handle: session.handle(),
            guest,
            pending,
            program,
        };
        self.connection.tasks.spawn(session::run(start));
        Ok(())
    }
}

impl Handler for ServerHandler {
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
        self.stage = match self.attempts.certificate(certificate, Account::Login(user)).await {
            Verdict::Stranger => return Ok(Auth::reject()),
            Verdict::Known(text) => Stage::Refused(text),
            Verdict::Verified(who) => {
                admit(&self.parts, &self.connection, &self.node, *who, user).await
            }
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
            Stage::Welcome(guest) => {
                drop(self.admission.take());
                if let Some(authenticated) = self.authenticated.take() {
                    // Nobody waits any more only when the connection is over.
                    let _ = authenticated.send(end_of(&guest.permit));
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
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(guest) = self.guest() else { return Ok(()) };
        if let Some(refusal) = self.no_room(&guest, true).await {
            reply.reject(refusal).await;
            return Ok(());
        }
        let (_, writer) = channel.split();
        self.channels.open_session(&self.connection.link, writer);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(guest) = self.guest() else { return Ok(()) };
        if let Some(refusal) = self.no_room(&guest, false).await {
            reply.reject(refusal).await;
            return Ok(());
        }
        let ends = self.channels.open(&self.connection.link, channel.id());
        let (_, writer) = channel.split();
        let request = forward::Request {
            parts: Arc::clone(&self.parts),
            connection: Arc::clone(&self.connection),
            guest,
            host: host.to_owned(),
            port,
            writer,
            ends,
            reply,
        };
        self.connection.tasks.spawn(forward::local(request));
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        pixel_width: u32,
        pixel_height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let permitted = self.guest().is_some_and(|guest| guest.permit.grant().limits.permit_pty);
        let modes = modes.iter().map(|(code, value)| (*code as u8, *value)).collect();
        let size = size(columns, rows, pixel_width, pixel_height);
        let wanted = permitted
            && self.channels.get(id).is_some_and(|channel| channel.want_pty(term, size, modes));
        if wanted { session.channel_success(id) } else { session.channel_failure(id) }
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        pixel_width: u32,
        pixel_height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(channel) = self.channels.get(id) {
            channel.resize(size(columns, rows, pixel_width, pixel_height));
        }
        session.channel_success(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let set = self.channels.get(id).is_some_and(|channel| channel.set_variable(name, value));
        if set { session.channel_success(id) } else { session.channel_failure(id) }
    }

    async fn shell_request(
        &mut self,
        id: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(id, Program::Shell, session)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(id, Program::Command(command.to_vec()), session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if name == "sftp" {
            return self.start(id, Program::Sftp, session);
        }
        if let Some(guest) = self.guest() {
            guest.journal.no_subsystem(name).await;
        }
        session.channel_failure(id)
    }

    async fn signal(
        &mut self,
        id: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(channel) = self.channels.get(id) {
            channel.signal(&signal);
        }
        Ok(())
    }

    async fn agent_request(
        &mut self,
        id: ChannelId,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        if let Some(guest) = self.guest()
            && self.channels.get(id).is_some_and(|channel| channel.pending().is_some())
        {
            let login = guest.login.clone();
            let why = match self
                .parts
                .gate
                .authorize_within(&guest.permit, Action::SshAgent { login })
                .await
            {
                Ok(_) => "agents are not forwarded here".to_owned(),
                Err(denied) => denied.to_string(),
            };
            guest.journal.note(|context| agent_refused(context, &why)).await;
        }
        Ok(false)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(guest) = self.guest() {
            guest.journal.note(x11_refused).await;
        }
        session.channel_failure(id)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        if let Some(guest) = self.guest() {
            forward::refuse_listening(&self.parts, &guest, address, *port).await;
        }
        Ok(false)
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

impl Drop for ServerHandler {
    fn drop(&mut self) {
        self.attempts.finish(&self.connection.tasks);
    }
}

fn size(columns: u32, rows: u32, pixel_width: u32, pixel_height: u32) -> PtySize {
    let bound = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    PtySize {
        columns: bound(columns),
        rows: bound(rows),
        pixel_width: bound(pixel_width),
        pixel_height: bound(pixel_height),
    }
}
