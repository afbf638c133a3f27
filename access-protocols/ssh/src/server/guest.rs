//! Who is served over a connection: admission by the gate, and when it ends.

use std::sync::Arc;

use access_core::gate::{Denied, EndReason};
use access_core::policy::{Action, Context, Target};
use access_core::{Login, Permit, Resource, VerifiedIdentity};

use super::Parts;
use super::events::Journal;
use crate::connection::{Connection, EndOfTime, Ended};

/// How far the client has come.
pub(super) enum Stage {
    Stranger,
    /// Known, but not welcome; the text says why.
    Refused(String),
    Welcome(Arc<Guest>),
}

/// Who is served over a connection.
pub(super) struct Guest {
    pub(super) permit: Permit,
    pub(super) login: Login,
    pub(super) journal: Journal,
}

/// Asks the gate for the session. It is asked here, where the login is settled, and not when a
/// channel is opened: a connection without a permit serves nothing, and one permit ends everything
/// that runs over the connection.
pub(super) async fn admit(
    parts: &Parts,
    connection: &Connection,
    node: &Resource,
    who: VerifiedIdentity,
    login: &str,
) -> Stage {
    let (Ok(login), Some(user)) = (Login::new(login), who.identity().subject.user()) else {
        return Stage::Refused("access denied".into());
    };
    let context = Context {
        client_addr: connection.client_addr.map(|addr| addr.ip().to_canonical()),
        trace_id: Some(connection.trace_id.clone()),
    };
    let action = Action::SshSession { login: login.clone() };
    let target = Target::Resource(node.clone());
    let journal =
        Journal::new(parts, connection, user.clone(), who.identity(), login.clone(), node);
    match parts.gate.authorize(&who, action, target, context).await {
        Ok(permit) => Stage::Welcome(Arc::new(Guest { permit, login, journal })),
        Err(denied) => {
            if let Denied::TooManyConnections { open } = &denied {
                journal.rejected(&denied.to_string(), Some(u64::from(*open))).await;
            }
            Stage::Refused(format!("{}: {}", node.id.name, denied.public()))
        }
    }
}

/// When a permit ends, in the words of events and users.
pub(super) fn end_of(permit: &Permit) -> EndOfTime {
    let ended = permit.ended();
    Box::pin(async move {
        let reason = ended.await;
        Ended {
            reason: match &reason {
                EndReason::Expired => "certificate expired",
                EndReason::Idle => "idle",
                EndReason::Withdrawn(_) => "access withdrawn",
                _ => "permit ended",
            },
            text: reason.to_string(),
        }
    })
}
