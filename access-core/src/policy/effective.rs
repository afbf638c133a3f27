//! The roles and traits of a person that count: the lesser of the certificate and the present.

use super::reason::Reason;
use super::snapshot::{PolicySnapshot, Slot, UserEntry};
use crate::identity::Identity;
use crate::ids::{RoleName, UserName};
use crate::labels::same;
use crate::role::{Role, TraitView};
use crate::time::Timestamp;

/// A user or bot whom the snapshot knows and whose certificate is not void.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person<'a> {
    snapshot: &'a PolicySnapshot,
    identity: &'a Identity,
    entry: Option<&'a UserEntry>,
}

/// A role that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    pub(super) role: &'a Role,
    /// When it ceases to be held; `None` when nothing says.
    pub(super) until: Option<Timestamp>,
}

impl<'a> Person<'a> {
    /// Looks a user up.
    pub(super) fn admit(
        snapshot: &'a PolicySnapshot,
        identity: &'a Identity,
        name: &UserName,
    ) -> Result<Self, Reason> {
        let entry = snapshot.user_entry(name);
        match entry {
            None if !snapshot.trusts_unlisted_users() => return Err(Reason::UnknownUser),
            None => {}
            Some(entry) => {
                let state = &entry.state;
                if state.removed {
                    return Err(Reason::UnknownUser);
                }
                if identity.issued_at < state.valid_after {
                    return Err(Reason::Void {
                        issued_at: identity.issued_at,
                        valid_after: state.valid_after,
                    });
                }
                if state.locked {
                    return Err(Reason::UserLocked);
                }
            }
        }
        Ok(Self { snapshot, identity, entry })
    }

    /// The traits that count for allowing.
    pub(super) fn allowing(&self) -> TraitView<'a> {
        TraitView::allowing(&self.identity.traits, self.current_traits())
    }

    /// The traits that count for denying.
    pub(super) fn denying(&self) -> TraitView<'a> {
        TraitView::denying(&self.identity.traits, self.current_traits())
    }

    fn current_traits(&self) -> Option<&'a crate::identity::Traits> {
        self.entry.and_then(|entry| entry.state.traits.as_ref())
    }

    /// The roles that count, in the certificate's order. A role that cannot be read is an error,
    /// and so is one that is locked; one that the snapshot does not know is passed over.
    pub(super) fn roles(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = Result<Held<'a>, Reason>> + use<'a> {
        let person = *self;
        // Certificates are issued with the roles in the order of the user's document, so that the
        // next role is nearly always found at the first look.
        let mut cursor = 0;
        person.identity.roles.iter().filter_map(move |name| {
            let (slot, until) = person.held(name, &mut cursor, now)?;
            if let Err(locked) = person.snapshot.locks().on_role(name, now) {
                return Some(Err(locked));
            }
            match slot {
                Slot::Ready(role) => {
                    let until = match (until, role.expires()) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                    Some(Ok(Held { role, until }))
                }
                Slot::Missing => None,
                Slot::Unreadable(error) => {
                    Some(Err(Reason::UnreadableRole { role: name.clone(), why: error.to_string() }))
                }
            }
        })
    }

    /// A role's slot, when the person still holds the role or it is lent to them.
    fn held(
        &self,
        name: &RoleName,
        cursor: &mut usize,
        now: Timestamp,
    ) -> Option<(&'a Slot, Option<Timestamp>)> {
        let Some(entry) = self.entry else {
            return Some((self.snapshot.slot_named(name)?, None));
        };
        let Some(roles) = &entry.roles else {
            return Some((self.snapshot.slot_named(name)?, None));
        };
        let (before, after) = roles.split_at(*cursor);
        if let Some((at, index)) =
            after.iter().chain(before).enumerate().find_map(|(at, (role, index))| {
                same(role.as_str(), name.as_str()).then_some((at, *index))
            })
        {
            *cursor = (*cursor + at + 1) % roles.len();
            return Some((self.snapshot.slot(index)?, None));
        }
        let until = self
            .identity
            .access_requests
            .iter()
            .filter_map(|id| entry.state.lent.get(id))
            .filter(|lent| now < lent.expires && lent.roles.contains(name))
            .map(|lent| lent.expires)
            .max()?;
        Some((self.snapshot.slot_named(name)?, Some(until)))
    }
}
