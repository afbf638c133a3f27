//! What hosts may write into the log, and what is stored of the rest.
//!
//! Hosts tell what they see themselves: sessions, what happens in them, who could not get in, what
//! their gate decided. Users, roles, locks, tokens, certificates and joins are the service's alone
//! to tell, so that no host can invent a history of them. Kinds that this version does not know
//! are refused too: the service is upgraded before its hosts.
//!
//! An event of another kind is not refused with its whole call, since the host would hand it over
//! again for ever and nothing after it. What is stored in its place, under its number, is that the
//! host was denied to write it; so the numbers stay without holes, and handing it over again
//! changes nothing.
//!
//! Every event of a host says in its field [`EMITTER`] who handed it over, by the host's
//! certificate and whatever the event says itself: a session of another `server_id` is a forgery
//! (or was told by a proxy for an agent). Only the service's own events have no such field.

use access_core::HostId;
use access_core::audit::events::{AccessDecision, AccessDecisionCode};
use access_core::audit::{Envelope, Event, List};

/// The field that names the host which handed an event over.
pub(super) const EMITTER: &str = "emitter";

/// The kinds that hosts may write.
const ALLOWED: &[&str] = &[
    "session.start",
    "session.join",
    "session.leave",
    "session.end",
    "session.data",
    "session.upload",
    "session.rejected",
    "session.network",
    "resize",
    "client.disconnect",
    "exec",
    "subsystem",
    "port",
    "scp",
    "sftp",
    "sftp_summary",
    "agent-forward",
    "x11-forward",
    "db.session.start",
    "db.session.end",
    "db.session.query",
    "db.session.query.failed",
    "db.session.result",
    "db.session.cancel",
    "db.session.malformed_packet",
    "db.session.permissions.update",
    "db.session.user.create",
    "db.session.user.deactivate",
    "db.session.postgres.statements.parse",
    "db.session.postgres.statements.bind",
    "db.session.postgres.statements.execute",
    "db.session.postgres.statements.close",
    "db.session.postgres.function",
    "auth",
    "access.decision",
    "audit.dropped",
    "audit.gap",
];

/// Whether hosts may write events of a kind.
pub(super) fn is_allowed(kind: &str) -> bool {
    ALLOWED.contains(&kind)
}

/// The event with the host that handed it over, whatever it says of that itself.
pub(super) fn emitted_by(mut envelope: Envelope, host: &HostId) -> Envelope {
    let fields = match &mut envelope.event {
        Event::Unknown(unknown) => &mut unknown.fields,
        _ => &mut envelope.extra,
    };
    fields.insert(EMITTER.into(), host.as_str().into());
    envelope
}

/// What is stored in the place of an event that is not.
pub(super) fn refused(mut envelope: Envelope, host: &HostId, why: &str) -> Envelope {
    let decision = AccessDecision {
        code: AccessDecisionCode::Denied,
        user: host.as_str().into(),
        action: "audit.emit".into(),
        target_kind: "event".into(),
        target: envelope.event.name().into(),
        login: None,
        reason: why.into(),
        user_roles: List::default(),
        sid: None,
        addr_remote: None,
        trace_id: None,
    };
    envelope.event = decision.into();
    envelope.extra.clear();
    emitted_by(envelope, host)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What only the service may tell.
    const OWN: &[&str] = &[
        "session.recording.access",
        "user.login",
        "user.logout",
        "user.create",
        "user.update",
        "user.delete",
        "user.password_change",
        "reset_password_token.create",
        "mfa.add",
        "mfa.delete",
        "cert.create",
        "role.created",
        "role.updated",
        "role.deleted",
        "lock.created",
        "lock.deleted",
        "join_token.create",
        "join_token.delete",
        "instance.join",
        "bot.join",
        "bot.create",
        "bot.update",
        "bot.delete",
        "resource.create",
        "resource.update",
        "resource.delete",
        "resource.release",
    ];

    #[test]
    fn every_kind_is_decided_on() {
        let mut listed: Vec<_> = ALLOWED.iter().chain(OWN).copied().collect();
        let mut known: Vec<_> = access_core::audit::kinds().map(|kind| kind.name).collect();
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
        assert!(!is_allowed("lunar.landing"));
    }

    #[test]
    fn no_kind_has_a_field_of_the_emitters_name() {
        let mut kinds = access_core::audit::kinds();
        assert!(!kinds.any(|kind| kind.fields().any(|field| field.key == EMITTER)));
    }
}
