//! The events of one connection.

use std::sync::Arc;

use access_core::audit::events::{
    AgentForward, AgentForwardCode, SessionContext, SessionRejected, Subsystem, SubsystemCode,
    X11Forward, X11ForwardCode,
};
use access_core::audit::{AuditError, AuditSink, Durability, Event, List, Text};
use access_core::{Identity, Login, Resource, SessionId, UserName};

use super::Parts;
use crate::connection::Connection;

/// Writes events about what one guest does.
#[derive(Clone)]
pub(crate) struct Journal {
    audit: Arc<dyn AuditSink>,
    context: SessionContext,
}

impl Journal {
    pub(crate) fn new(
        parts: &Parts,
        connection: &Connection,
        user: UserName,
        identity: &Identity,
        login: Login,
        node: &Resource,
    ) -> Self {
        let context = SessionContext {
            user,
            login: Some(login),
            sid: SessionId::from_random(rand::random()),
            server_id: node.host.clone(),
            server_hostname: Some(node.id.name.as_str().into()),
            proto: "ssh".into(),
            addr_remote: connection.client_addr.map(Text::of),
            addr_local: None,
            user_roles: identity.roles.iter().map(|role| role.as_str()).collect(),
            trace_id: Some(connection.trace_id.clone()),
        };
        Self { audit: Arc::clone(&parts.checker.audit), context }
    }

    /// The same for a session of its own.
    pub(crate) fn of_new_session(&self) -> Self {
        let mut journal = self.clone();
        journal.context.sid = SessionId::from_random(rand::random());
        journal
    }

    pub(crate) fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Writes an event of which something else depends.
    pub(crate) async fn write(
        &self,
        event: impl Into<Event> + Send,
        durability: Durability,
    ) -> Result<(), AuditError> {
        self.audit.accept(event.into(), durability).await
    }

    /// Writes an event about something that was refused or is over: nothing depends on it.
    pub(crate) async fn note<E: Into<Event>>(&self, make: impl FnOnce(SessionContext) -> E) {
        let event = make(self.context.clone()).into();
        let name = event.name().to_owned();
        if let Err(err) = self.audit.accept(event, Durability::Soon).await {
            tracing::warn!(%err, event = name, "an event could not be recorded");
        }
    }

    pub(crate) async fn rejected(&self, why: &str, max: Option<u64>) {
        self.note(|session| SessionRejected { session, reason: why.into(), max }).await;
    }

    pub(crate) async fn no_subsystem(&self, name: &str) {
        self.note(|session| Subsystem {
            code: SubsystemCode::Failed,
            session,
            name: name.into(),
            exit_error: Some("there is no such subsystem".into()),
        })
        .await;
    }
}

pub(crate) fn agent_refused(session: SessionContext, why: &str) -> AgentForward {
    AgentForward { code: AgentForwardCode::Refused, session, error: Some(why.into()) }
}

pub(crate) fn x11_refused(session: SessionContext) -> X11Forward {
    X11Forward {
        code: X11ForwardCode::Refused,
        session,
        error: Some("X11 is not forwarded here".into()),
    }
}

/// A command line as a list of one, as events have it.
pub(crate) fn command_list(command: &[u8]) -> List {
    List::from_iter([String::from_utf8_lossy(command)])
}
