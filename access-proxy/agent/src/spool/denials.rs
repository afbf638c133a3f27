//! Which denials come so fast that they are kept like strangers' events.
//!
//! Who was removed holds a certificate until it expires. Whatever is asked with it is denied, and
//! each denial is an event: without a bound they could fill the spool, which then takes nothing
//! from anybody.

use std::collections::HashMap;
use std::time::Duration;

use access_core::Timestamp;
use access_core::audit::Event;
use access_core::audit::events::AccessDecisionCode;

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
        let Event::AccessDecision(decision) = event else { return false };
        if decision.code != AccessDecisionCode::Denied {
            return false;
        }
        if now < self.since || now.since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        let name = decision.user.as_str();
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

#[cfg(test)]
mod tests {
    use access_core::audit::List;
    use access_core::audit::events::AccessDecision;

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
