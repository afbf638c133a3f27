//! Which of many resources somebody may see.

use std::borrow::Borrow;

use super::action::{Action, ApiKind, Context, Verb};
use super::builtin::{self, Scope};
use super::decide::check_certificate;
use super::effective::{Held, Person};
use super::request::Request;
use super::snapshot::PolicySnapshot;
use crate::identity::{Identity, Subject, VerifiedIdentity};
use crate::resource::Resource;
use crate::time::Timestamp;

/// Those of many resources for which [`decide`](super::decide) would allow [`Action::See`], in
/// their order. Roles are looked up once for all of them.
///
/// The cluster's own services see what they may list.
pub fn visible<'a, R, I>(
    snapshot: &'a PolicySnapshot,
    who: &'a VerifiedIdentity,
    context: &Context,
    now: Timestamp,
    resources: I,
) -> impl Iterator<Item = R> + use<'a, R, I>
where
    R: Borrow<Resource>,
    I: IntoIterator<Item = R>,
{
    let viewer = Viewer::new(snapshot, who, context, now);
    resources.into_iter().filter(move |resource| {
        viewer.as_ref().is_some_and(|viewer| viewer.sees(resource.borrow()))
    })
}

enum Viewer<'a> {
    Host(&'a Identity),
    Person {
        snapshot: &'a PolicySnapshot,
        identity: &'a Identity,
        person: Person<'a>,
        roles: Vec<Held<'a>>,
        now: Timestamp,
    },
}

impl<'a> Viewer<'a> {
    /// `None` sees nothing.
    fn new(
        snapshot: &'a PolicySnapshot,
        who: &'a VerifiedIdentity,
        context: &Context,
        now: Timestamp,
    ) -> Option<Self> {
        let identity = who.identity();
        check_certificate(snapshot, identity, context, now).ok()?;
        let Some(name) = identity.subject.user() else {
            return Some(Self::Host(identity));
        };
        let person = Person::admit(snapshot, identity, name).ok()?;
        let roles: Vec<Held<'a>> = person.roles(now).collect::<Result<_, _>>().ok()?;
        let pinned = identity.source_pin.is_some();
        if !pinned && roles.iter().any(|held| held.role.options().pin_source_ip == Some(true)) {
            return None;
        }
        Some(Self::Person { snapshot, identity, person, roles, now })
    }

    fn sees(&self, resource: &Resource) -> bool {
        match self {
            Self::Host(identity) => host_sees(identity, resource),
            Self::Person { snapshot, identity, person, roles, now } => {
                let request = Request::See(resource);
                identity.route.as_ref().is_none_or(|route| *route == resource.id)
                    && roles.iter().any(|held| {
                        held.until.is_none_or(|until| *now < until)
                            && request.allowed_by(held.role.allow(), person.allowing())
                    })
                    && !roles
                        .iter()
                        .any(|held| request.denied_by(held.role.deny(), person.denying()))
                    && snapshot.locks().on_target(&Action::See, Some(resource), *now).is_ok()
            }
        }
    }
}

fn host_sees(identity: &Identity, resource: &Resource) -> bool {
    let Subject::Host { id, services, .. } = &identity.subject else { return false };
    match builtin::scope(services, ApiKind::of_resource(resource.id.kind), Verb::List) {
        Scope::All => true,
        Scope::Own => resource.host == *id,
        Scope::None => false,
    }
}
