//! Accounts of databases that are made on the fly.
//!
//! An account is made for somebody on a database that has an admin user, when one of the roles
//! that reach the database by labels and name says so, and no role that is held says `off`. Where
//! that is so, it is so for every session of theirs there: the account bears their own name, no
//! other can be had, and `db_users` is not looked at. Of several modes the strictest holds: `off`,
//! then `best_effort_drop`, then `keep`. Its roles in the database are the `db_roles` of all roles
//! that match the database's labels, but for those that any role denies.

use super::decide::{check_certificate, least};
use super::effective::{Held, Person};
use super::reason::Reason;
use super::request::{Request, is_reserved};
use super::snapshot::PolicySnapshot;
use super::{Context, action::Action};
use crate::identity::VerifiedIdentity;
use crate::ids::UserName;
use crate::resource::Resource;
use crate::role::{CreateDbUserMode, Role};
use crate::time::Timestamp;

/// Whether an account on a database is made for somebody, whichever database on the server they
/// connect to. For telling them beforehand: the decision is [`decide`](super::decide())'s.
pub fn account_mode(
    snapshot: &PolicySnapshot,
    who: &VerifiedIdentity,
    resource: &Resource,
    context: &Context,
    now: Timestamp,
) -> CreateDbUserMode {
    let identity = who.identity();
    let mode = || {
        let Some(name) = identity.subject.user() else { return Ok(CreateDbUserMode::Off) };
        check_certificate(snapshot, identity, context, now)?;
        let person = Person::admit(snapshot, identity, name)?;
        snapshot.locks().on_target(&Action::See, Some(resource), now)?;
        let (see, traits) = (Request::See(resource), person.allowing());
        mode(&person, resource, now, |role| see.allowed_by(role.allow(), traits))
    };
    mode().unwrap_or_default()
}

/// Whether the account that is asked for is made.
pub(super) fn mode_for(
    person: &Person<'_>,
    request: Request<'_>,
    now: Timestamp,
) -> Result<CreateDbUserMode, Reason> {
    let Request::Database { server, .. } = request else { return Ok(CreateDbUserMode::Off) };
    let (request, traits) = (request.made(), person.allowing());
    mode(person, server, now, |role| request.allowed_by(role.allow(), traits))
}

/// Whether a role has accounts made.
pub(super) fn makes(role: &Role) -> bool {
    role.options().create_db_user_mode.is_some_and(|mode| mode != CreateDbUserMode::Off)
}

/// Whether the account that is asked for can be the one that is made for somebody.
pub(super) fn check(request: Request<'_>, name: &UserName) -> Result<(), Reason> {
    let Request::Database { server, user, .. } = request else { return Ok(()) };
    if user.as_str() != name.as_str() {
        return Err(Reason::OwnAccount(name.clone()));
    }
    // Whoever is called like one that is there for something else gets none.
    if is_reserved(user) || server.admin_user.as_ref() == Some(user) {
        return Err(Reason::NoAccount(name.clone()));
    }
    Ok(())
}

fn mode(
    person: &Person<'_>,
    server: &Resource,
    now: Timestamp,
    reaches: impl Fn(&Role) -> bool,
) -> Result<CreateDbUserMode, Reason> {
    if server.admin_user.is_none() {
        return Ok(CreateDbUserMode::Off);
    }
    let (mut strictest, mut made) = (None, false);
    for held in person.roles(now) {
        let Held { role, until } = held?;
        strictest = least(strictest, role.options().create_db_user_mode);
        made |= makes(role) && until.is_none_or(|until| now < until) && reaches(role);
    }
    Ok(strictest.filter(|_| made).unwrap_or_default())
}
