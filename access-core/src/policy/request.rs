//! What is asked for, with the action and the target brought together: combinations that make no
//! sense cannot be written.

use super::action::{Action, ApiKind, Target, Verb};
use super::reason::Reason;
use crate::ids::{HostId, Login};
use crate::resource::{Resource, ResourceKind};
use crate::role::{AccountKind, Conditions, KubernetesRequest, Match, TraitView};

/// An action on a target of the kind that it is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request<'a> {
    See(&'a Resource),
    Ssh {
        node: &'a Resource,
        login: &'a Login,
        part: SshPart,
    },
    Database {
        server: &'a Resource,
        user: &'a Login,
        database: &'a str,
        statement: Option<Statement<'a>>,
        /// Whether the account is made for who asks; see [`super::account`].
        made: bool,
    },
    App(&'a Resource),
    Kubernetes {
        cluster: &'a Resource,
        request: KubernetesRequest<'a>,
    },
    Desktop {
        desktop: &'a Resource,
        login: &'a Login,
    },
    Api {
        kind: ApiKind,
        verb: Verb,
        owner: Option<&'a HostId>,
    },
}

/// What of SSH is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SshPart {
    Session,
    Files,
    Forward,
    Listen,
    Agent,
}

/// What of a database session is asked for, when it is one statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement<'a> {
    pub(super) command: &'a str,
    pub(super) writes: bool,
}

/// Database accounts that patterns never allow: the superuser, and CockroachDB's own nodes.
const RESERVED_DB_USERS: [&str; 2] = ["root", "node"];

/// Whether an account of a database is one that patterns never allow.
pub(super) fn is_reserved(user: &Login) -> bool {
    RESERVED_DB_USERS.iter().any(|name| name.eq_ignore_ascii_case(user.as_str()))
}

impl<'a> Request<'a> {
    pub(super) fn new(action: &'a Action, target: &'a Target) -> Result<Self, Reason> {
        let mismatch = || Reason::Mismatch { action: action.name(), target: target.to_string() };
        let resource = match target {
            Target::Resource(resource) => resource,
            Target::Api { kind, name: _, owner } => {
                return match action {
                    Action::Api(verb) => {
                        Ok(Self::Api { kind: *kind, verb: *verb, owner: owner.as_ref() })
                    }
                    _ => Err(mismatch()),
                };
            }
        };
        let ssh = |login, part| Self::Ssh { node: resource, login, part };
        let (needs, request) = match action {
            Action::See => return Ok(Self::See(resource)),
            Action::Api(_) => return Err(mismatch()),
            Action::SshSession { login } => (ResourceKind::Node, ssh(login, SshPart::Session)),
            Action::SshSftp { login } => (ResourceKind::Node, ssh(login, SshPart::Files)),
            Action::SshForward { login, .. } => (ResourceKind::Node, ssh(login, SshPart::Forward)),
            Action::SshListen { login, .. } => (ResourceKind::Node, ssh(login, SshPart::Listen)),
            Action::SshAgent { login } => (ResourceKind::Node, ssh(login, SshPart::Agent)),
            Action::Database { user, database } => (
                ResourceKind::Database,
                Self::Database { server: resource, user, database, statement: None, made: false },
            ),
            Action::DatabaseStatement { user, database, command, writes } => {
                let statement = Some(Statement { command, writes: *writes });
                let request =
                    Self::Database { server: resource, user, database, statement, made: false };
                (ResourceKind::Database, request)
            }
            Action::App { .. } => (ResourceKind::App, Self::App(resource)),
            Action::Kubernetes { verb, namespace, resource: plural, name } => (
                ResourceKind::KubernetesCluster,
                Self::Kubernetes {
                    cluster: resource,
                    request: KubernetesRequest {
                        verb,
                        namespace: namespace.as_deref(),
                        resource: plural,
                        name: name.as_deref(),
                    },
                },
            ),
            Action::Desktop { login } => {
                (ResourceKind::Desktop, Self::Desktop { desktop: resource, login })
            }
        };
        if resource.id.kind == needs { Ok(request) } else { Err(mismatch()) }
    }

    /// The same for an account that is made for who asks.
    pub(super) fn made(mut self) -> Self {
        if let Self::Database { made, .. } = &mut self {
            *made = true;
        }
        self
    }

    /// The resource, when the target is one.
    pub(super) fn resource(self) -> Option<&'a Resource> {
        match self {
            Self::See(resource)
            | Self::Ssh { node: resource, .. }
            | Self::Database { server: resource, .. }
            | Self::App(resource)
            | Self::Kubernetes { cluster: resource, .. }
            | Self::Desktop { desktop: resource, .. } => Some(resource),
            Self::Api { .. } => None,
        }
    }

    /// Whether one role's allowing side covers it: every part must fit.
    pub(super) fn allowed_by(self, allow: &Conditions, traits: TraitView<'_>) -> bool {
        let account = |kind, text: &str| allow.accounts(kind).matches(text, traits);
        // Accounts first: they are cheaper than labels and rarer to fit.
        let accounts = match self {
            Self::See(_) | Self::App(_) => true,
            Self::Ssh { login, .. } => account(AccountKind::Login, login.as_str()).any(),
            // Whose it is was decided already.
            Self::Database { database, made: true, .. } => {
                account(AccountKind::DbName, database).any()
            }
            Self::Database { user, database, made: false, .. } => {
                let user_fits = account(AccountKind::DbUser, user.as_str());
                (if is_reserved(user) { user_fits == Match::Exact } else { user_fits.any() })
                    && account(AccountKind::DbName, database).any()
            }
            Self::Kubernetes { request, .. } => allow.kubernetes(request, false),
            Self::Desktop { login, .. } => account(AccountKind::DesktopLogin, login.as_str()).any(),
            Self::Api { kind, verb, .. } => return allow.rules().has(kind, verb),
        };
        accounts && self.labelled(allow, traits)
    }

    /// Whether one role's denying side covers it: any part is enough.
    pub(super) fn denied_by(self, deny: &Conditions, traits: TraitView<'_>) -> bool {
        let account = |kind, text: &str| deny.accounts(kind).matches(text, traits).any();
        let accounts = match self {
            Self::See(_) | Self::App(_) => false,
            Self::Ssh { login, .. } => account(AccountKind::Login, login.as_str()),
            Self::Database { user, database, .. } => {
                account(AccountKind::DbUser, user.as_str())
                    || account(AccountKind::DbName, database)
            }
            Self::Kubernetes { request, .. } => deny.kubernetes(request, true),
            Self::Desktop { login, .. } => account(AccountKind::DesktopLogin, login.as_str()),
            Self::Api { kind, verb, .. } => return deny.rules().has(kind, verb),
        };
        accounts || self.labelled(deny, traits)
    }

    fn labelled(self, conditions: &Conditions, traits: TraitView<'_>) -> bool {
        self.resource().is_some_and(|resource| {
            conditions.labels(resource.id.kind).matches(&resource.labels, traits)
        })
    }
}
