//! What roles mean for those who issue certificates and credentials.

use std::collections::BTreeSet;
use std::time::Duration;

use super::effective::{Held, Person};
use super::reason::Reason;
use super::snapshot::{PolicySnapshot, Slot};
use crate::identity::{Identity, Traits, VerifiedIdentity};
use crate::ids::{Login, RoleName};
use crate::resource::Resource;
use crate::role::{AccountKind, Role, TraitView};
use crate::time::Timestamp;

/// The logins that a certificate for these roles and traits is to name.
///
/// Each is written out in a role or held by a trait, and denied by none. A role that cannot be
/// read leaves none: a certificate without logins must not be issued.
pub fn logins_for(
    snapshot: &PolicySnapshot,
    roles: &[RoleName],
    traits: &Traits,
) -> BTreeSet<Login> {
    let Some(roles) = readable(snapshot, roles) else { return BTreeSet::new() };
    let (allowing, denying) = (TraitView::allowing(traits, None), TraitView::denying(traits, None));
    accounts(&roles, &roles, AccountKind::Login, allowing, denying)
        .into_iter()
        .filter_map(|login| Login::new(login).ok())
        .collect()
}

/// What a certificate for a set of roles may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateLimits {
    /// Its longest life.
    pub max_ttl: Duration,
    /// Whether it must be bound to the address that it was asked for from.
    pub pin_source_ip: bool,
    /// Whether terminals may be had with it.
    pub permit_pty: bool,
    /// Whether connections may be forwarded with it, as far as a certificate can say: the
    /// decision about each is made at the node.
    pub permit_port_forwarding: bool,
    /// The same for the SSH agent.
    pub permit_agent_forwarding: bool,
}

/// The limits of a certificate for these roles; unknown ones add nothing. A role that cannot be
/// read permits nothing, for no time.
pub fn certificate_limits(snapshot: &PolicySnapshot, roles: &[RoleName]) -> CertificateLimits {
    let Some(roles) = readable(snapshot, roles) else {
        return CertificateLimits {
            max_ttl: Duration::ZERO,
            pin_source_ip: true,
            permit_pty: false,
            permit_port_forwarding: false,
            permit_agent_forwarding: false,
        };
    };
    let options = || roles.iter().map(|role| role.options());
    let ttls = options().filter_map(|options| options.max_session_ttl);
    CertificateLimits {
        max_ttl: ttls.fold(snapshot.settings().max_session_ttl, Ord::min).as_duration(),
        pin_source_ip: options().any(|options| options.pin_source_ip == Some(true)),
        permit_pty: options().all(|options| options.permit_pty != Some(false)),
        permit_port_forwarding: options().any(|options| options.port_forwarding != Some(false)),
        permit_agent_forwarding: options().any(|options| options.forward_agent == Some(true)),
    }
}

/// The longest life of a certificate for these roles; zero when one of them cannot be read.
pub fn max_ttl(snapshot: &PolicySnapshot, roles: &[RoleName]) -> Duration {
    certificate_limits(snapshot, roles).max_ttl
}

/// The accounts of a kind that somebody may have on a resource: what is written out in the roles
/// that match it, or held by traits, and is denied by none. Patterns stand for no account.
///
/// # Errors
/// [`Reason`] when the user's certificate is good for nothing.
pub fn granted_accounts(
    snapshot: &PolicySnapshot,
    who: &VerifiedIdentity,
    kind: AccountKind,
    resource: &Resource,
    now: Timestamp,
) -> Result<BTreeSet<String>, Reason> {
    let Some((person, held)) = held_roles(snapshot, who.identity(), now)? else {
        return Ok(BTreeSet::new());
    };
    let (allowing, denying) = (person.allowing(), person.denying());
    let all: Vec<&Role> = held.iter().map(|held| held.role).collect();
    let labelled =
        |labels: &crate::labels::LabelMatcher, view| labels.matches(&resource.labels, view);
    if resource.id.kind != kind.resource()
        || all.iter().any(|role| labelled(role.deny().labels(resource.id.kind), denying))
    {
        return Ok(BTreeSet::new());
    }
    let matching: Vec<&Role> = held
        .iter()
        .filter(|held| held.until.is_none_or(|until| now < until))
        .map(|held| held.role)
        .filter(|role| labelled(role.allow().labels(resource.id.kind), allowing))
        .collect();
    Ok(accounts(&matching, &all, kind, allowing, denying))
}

/// Whether somebody may ask for a role.
///
/// # Errors
/// [`Reason`] why not.
pub fn may_request(
    snapshot: &PolicySnapshot,
    who: &VerifiedIdentity,
    role: &RoleName,
    now: Timestamp,
) -> Result<(), Reason> {
    about_requests(snapshot, who, role, now, "request", crate::role::Conditions::requests)
}

/// Whether somebody may decide requests for a role.
///
/// # Errors
/// [`Reason`] why not.
pub fn may_review(
    snapshot: &PolicySnapshot,
    who: &VerifiedIdentity,
    role: &RoleName,
    now: Timestamp,
) -> Result<(), Reason> {
    about_requests(snapshot, who, role, now, "review", crate::role::Conditions::reviews)
}

fn about_requests(
    snapshot: &PolicySnapshot,
    who: &VerifiedIdentity,
    role: &RoleName,
    now: Timestamp,
    action: &'static str,
    covers: fn(&crate::role::Conditions, &RoleName) -> bool,
) -> Result<(), Reason> {
    let refused = || Reason::NotAllowed { action, target: format!("role {role}") };
    let (_, held) = held_roles(snapshot, who.identity(), now)?.ok_or_else(refused)?;
    if let Some(denying) = held.iter().find(|held| covers(held.role.deny(), role)) {
        return Err(Reason::DeniedBy(denying.role.name().clone()));
    }
    held.iter()
        .filter(|held| held.until.is_none_or(|until| now < until))
        .any(|held| covers(held.role.allow(), role))
        .then_some(())
        .ok_or_else(refused)
}

type PersonWithRoles<'a> = (Person<'a>, Vec<Held<'a>>);

/// `None` for hosts, which have no roles.
fn held_roles<'a>(
    snapshot: &'a PolicySnapshot,
    identity: &'a Identity,
    now: Timestamp,
) -> Result<Option<PersonWithRoles<'a>>, Reason> {
    let Some(name) = identity.subject.user() else { return Ok(None) };
    snapshot.locks().on_identity(identity, now)?;
    let person = Person::admit(snapshot, identity, name)?;
    let roles = person.roles(now).collect::<Result<_, _>>()?;
    Ok(Some((person, roles)))
}

/// The roles that exist, or `None` when one of them cannot be read.
fn readable<'a>(snapshot: &'a PolicySnapshot, roles: &[RoleName]) -> Option<Vec<&'a Role>> {
    let mut found = Vec::with_capacity(roles.len());
    for name in roles {
        match snapshot.slot_named(name) {
            Some(Slot::Ready(role)) => found.push(&**role),
            Some(Slot::Unreadable(_)) => return None,
            Some(Slot::Missing) | None => {}
        }
    }
    Some(found)
}

fn accounts(
    allowing_roles: &[&Role],
    all_roles: &[&Role],
    kind: AccountKind,
    allowing: TraitView<'_>,
    denying: TraitView<'_>,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for role in allowing_roles {
        role.allow().accounts(kind).each_exact(allowing, &mut |account| {
            if !found.contains(&*account) {
                found.insert(account.into_owned());
            }
        });
    }
    found.retain(|account| {
        !all_roles.iter().any(|role| role.deny().accounts(kind).matches(account, denying).any())
    });
    found
}
