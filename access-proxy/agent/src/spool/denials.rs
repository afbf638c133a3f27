//! Which denials come so fast that they are kept like strangers' events.
//!
//! Who was removed holds a certificate until it expires. Whatever is asked with it is denied, and
//! each denial is an event, or two: without a bound they could fill the spool, which then takes
//! nothing from anybody. So could somebody whose sessions come to nothing for another reason, and
//! who tries without end.

use std::collections::HashMap;
use std::time::Duration;

use access_core::Timestamp;
use access_core::audit::Event;
use access_core::audit::events::{AccessDecisionCode, DbSessionStartCode, DbSessionUserCreateCode};

/// How many denials of one name have a place of their own in [`WINDOW`].
const MOST: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
/// How many names are counted. Names come from certificates of the cluster.
const MAX_NAMES: usize = 1024;

/// Counts denials by name.
pub(super) struct Denials {
    since: Timestamp,
    by_name: HashMap<String, u32>,
}

impl Denials {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { since: now, by_name: HashMap::new() }
    }

    /// Whether an event is one denial too many.
    pub(super) fn is_too_many(&mut self, event: &Event, now: Timestamp) -> bool {
        let Some(name) = denied(event) else { return false };
        if now < self.since || now.since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        if !self.by_name.contains_key(name) {
            if self.by_name.len() >= MAX_NAMES {
                return true;
            }
            self.by_name.insert(name.to_owned(), 0);
        }
        self.by_name.get_mut(name).is_none_or(|count| {
            *count = count.saturating_add(1);
            *count > MOST
        })
    }
}

/// Whose session or request an event says did not come about.
fn denied(event: &Event) -> Option<&str> {
    match event {
        Event::AccessDecision(decision) if decision.code == AccessDecisionCode::Denied => {
            Some(decision.user.as_str())
        }
        Event::DbSessionStart(start) if start.code == DbSessionStartCode::Denied => {
            Some(start.session.user.as_str())
        }
        Event::DbSessionUserCreate(made) if made.code == DbSessionUserCreateCode::Failed => {
            Some(made.session.user.as_str())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use access_core::audit::List;
    use access_core::audit::events::{
        AccessDecision, DbSessionStart, DbSessionUserCreate, DbTarget, Outcome, SessionContext,
    };
    use access_core::{HostId, SessionId, UserName};

    use super::*;

    fn decision(code: AccessDecisionCode, user: &str) -> Event {
        AccessDecision {
            code,
            user: user.into(),
            action: "ssh.shell".into(),
            target_kind: "node".into(),
            target: "web-1".into(),
            login: None,
            reason: "the user is locked".into(),
            user_roles: List::default(),
            sid: None,
            addr_remote: None,
            trace_id: None,
        }
        .into()
    }

    fn session(user: &str) -> SessionContext {
        SessionContext {
            user: UserName::new(user).unwrap(),
            login: None,
            sid: SessionId::from_random([7; 16]),
            server_id: HostId::new("h-1").unwrap(),
            server_hostname: None,
            proto: "db".into(),
            addr_remote: None,
            addr_local: None,
            user_roles: List::default(),
            trace_id: None,
        }
    }

    fn db() -> DbTarget {
        DbTarget {
            db_service: "orders".into(),
            db_protocol: "postgres".into(),
            db_uri: None,
            db_name: None,
            db_user: None,
        }
    }

    fn start(code: DbSessionStartCode, user: &str) -> Event {
        DbSessionStart {
            code,
            session: session(user).into(),
            db: db().into(),
            outcome: Outcome::failed("denied"),
            application_name: None,
            replication: None,
            session_recording: None,
        }
        .into()
    }

    fn account(code: DbSessionUserCreateCode, user: &str) -> Event {
        DbSessionUserCreate {
            code,
            session: session(user).into(),
            db: db().into(),
            outcome: Outcome::failed("no admin user"),
            username: user.into(),
            roles: List::default(),
        }
        .into()
    }

    #[test]
    fn database_sessions_that_come_to_nothing_count_with_the_denials() {
        let now = Timestamp::from_secs(1000);
        let mut denials = Denials::new(now);
        let attempt = [
            decision(AccessDecisionCode::Denied, "mallory"),
            start(DbSessionStartCode::Denied, "mallory"),
            account(DbSessionUserCreateCode::Failed, "mallory"),
        ];
        for number in 0..MOST {
            let event = &attempt[number as usize % attempt.len()];
            assert!(!denials.is_too_many(event, now), "{number}");
        }
        assert!(attempt.iter().all(|event| denials.is_too_many(event, now)));
        assert!(!denials.is_too_many(&start(DbSessionStartCode::Denied, "alice"), now));
        for event in [
            start(DbSessionStartCode::Started, "mallory"),
            account(DbSessionUserCreateCode::Created, "mallory"),
        ] {
            assert!(!denials.is_too_many(&event, now), "what came about is never overwritten");
        }
    }

    #[test]
    fn many_denials_of_one_name_count_as_a_stranger_s() {
        let start = Timestamp::from_secs(1000);
        let mut denials = Denials::new(start);
        let denied = decision(AccessDecisionCode::Denied, "mallory");
        for _ in 0..MOST {
            assert!(!denials.is_too_many(&denied, start));
        }
        assert!(denials.is_too_many(&denied, start));
        assert!(!denials.is_too_many(&decision(AccessDecisionCode::Denied, "alice"), start));
        let allowed = decision(AccessDecisionCode::Allowed, "mallory");
        assert!(!denials.is_too_many(&allowed, start), "what is allowed is never overwritten");
        let later = start.plus(WINDOW);
        assert!(!denials.is_too_many(&denied, later));
        for number in 0..MAX_NAMES {
            denials.is_too_many(&decision(AccessDecisionCode::Denied, &number.to_string()), later);
        }
        assert_eq!(denials.by_name.len(), MAX_NAMES);
    }
}
