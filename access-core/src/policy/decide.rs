//! The decision.

use std::sync::Arc;
use std::time::Duration;

use super::account;
use super::action::{Action, Context, Target};
use super::builtin;
use super::effective::Person;
use super::grant::{DatabaseGrant, Decision, Grant, SessionLimits};
use super::issue::granted_accounts;
use super::reason::Reason;
use super::request::{Request, SshPart, Statement};
use super::snapshot::{ClusterSettings, PolicySnapshot};
use crate::identity::{Identity, Subject, VerifiedIdentity};
use crate::ids::RoleName;
use crate::role::{AccountKind, CommandList, CreateDbUserMode, RecordMode, Role, RoleOptions};
use crate::time::Timestamp;

/// Decides whether somebody may do something, now. Pure: the same arguments, the same decision.
///
/// In order: locks, the certificate's own bounds (address, route, void since), then the roles. A
/// denial by any role that is held ends it; otherwise one role must allow all of it by itself.
/// `now` is compared with the expiry of locks, roles and lent roles; that the certificate holds
/// and the snapshot is fresh is the gate's to check.
pub fn decide(
    snapshot: &PolicySnapshot,
    who: &VerifiedIdentity,
    action: &Action,
    target: &Target,
    context: &Context,
    now: Timestamp,
) -> Decision {
    match judge(snapshot, who, action, target, context, now) {
        Ok(grant) => Decision::Allow(grant),
        Err(reason) => Decision::Deny(reason),
    }
}

fn judge(
    snapshot: &PolicySnapshot,
    who: &VerifiedIdentity,
    action: &Action,
    target: &Target,
    context: &Context,
    now: Timestamp,
) -> Result<Grant, Reason> {
    let identity = who.identity();
    let request = Request::new(action, target)?;
    check_certificate(snapshot, identity, context, now)?;
    check_route(identity, request)?;
    let name = match &identity.subject {
        Subject::User { name } | Subject::Bot { name } => name,
        Subject::Host { id, services, .. } => {
            return if builtin::may(id, services, request) {
                let limits = SessionLimits::until(who.validity().not_after());
                Ok(Grant::within(limits))
            } else {
                Err(Reason::Service { action: action.name(), target: target.to_string() })
            };
        }
    };
    let person = Person::admit(snapshot, identity, name)?;
    snapshot.locks().on_target(action, request.resource(), now)?;
    if let Request::Ssh { login, .. } = request
        && !identity.logins.contains(login)
    {
        return Err(Reason::Principal(login.clone()));
    }

    let mode = account::mode_for(&person, request, now)?;
    let made = mode != CreateDbUserMode::Off;
    let request = if made { request.made() } else { request };
    let (allowing, denying) = (person.allowing(), person.denying());
    let mut merged = Merged::new(snapshot.settings(), identity);
    let mut roles = Vec::new();
    for held in person.roles(now) {
        let held = held?;
        let role = held.role;
        if request.denied_by(role.deny(), denying) {
            return Err(Reason::DeniedBy(role.name().clone()));
        }
        merged.held(request, role);
        if held.until.is_none_or(|until| now < until)
            && (!made || account::makes(role))
            && request.allowed_by(role.allow(), allowing)
        {
            if roles.is_empty() {
                roles.reserve(identity.roles.len().min(16));
            }
            roles.push(role.name().clone());
            merged.allowing(role.options(), held.until);
        }
    }
    if made {
        account::check(request, name)?;
    }
    if roles.is_empty() {
        return Err(Reason::NotAllowed { action: action.name(), target: target.to_string() });
    }
    let (limits, mut database) = merged.finish(request, who)?;
    database.create_user = mode;
    if made && let Request::Database { server, statement: None, .. } = request {
        let granted = granted_accounts(snapshot, who, AccountKind::DbRole, server, now)?;
        database.roles = granted.into_iter().collect();
    }
    Ok(Grant { roles, limits, database })
}

/// What holds wherever the certificate is used: locks on its subject, and its address.
pub(super) fn check_certificate(
    snapshot: &PolicySnapshot,
    identity: &Identity,
    context: &Context,
    now: Timestamp,
) -> Result<(), Reason> {
    snapshot.locks().on_identity(identity, now)?;
    match &identity.source_pin {
        Some(pin) if !context.client_addr.is_some_and(|address| pin.contains(address)) => {
            Err(Reason::SourcePin(context.client_addr))
        }
        _ => Ok(()),
    }
}

/// A certificate that was made for one resource is good for nothing else, the API included.
fn check_route(identity: &Identity, request: Request<'_>) -> Result<(), Reason> {
    match &identity.route {
        Some(route) if request.resource().is_none_or(|resource| resource.id != *route) => {
            Err(Reason::Route(route.clone()))
        }
        _ => Ok(()),
    }
}

/// The options of several roles, brought together.
struct Merged<'a> {
    cluster: &'a ClusterSettings,
    identity: &'a Identity,
    idle: Option<Duration>,
    end_with_certificate: bool,
    record: Option<RecordMode>,
    max_sessions: Option<u32>,
    max_connections: Option<u32>,
    /// Roles that forbid something to all sessions, by what they forbid.
    no_pty: bool,
    no_local: Option<&'a RoleName>,
    no_remote: Option<&'a RoleName>,
    no_files: Option<&'a RoleName>,
    not_pinned: Option<&'a RoleName>,
    read_only: Option<&'a RoleName>,
    denies_command: Option<&'a RoleName>,
    deny_commands: CommandList,
    no_replication: bool,
    redact_parameters: bool,
    /// What one of the allowing roles permits.
    forwarding: bool,
    agent: bool,
    replication: bool,
    session_mfa: bool,
    /// The latest end of the allowing roles; `None` before the first.
    until: Option<Timestamp>,
}

impl<'a> Merged<'a> {
    fn new(cluster: &'a ClusterSettings, identity: &'a Identity) -> Self {
        Self {
            cluster,
            identity,
            idle: cluster.client_idle_timeout.and_then(limit),
            end_with_certificate: cluster.disconnect_expired_cert,
            record: None,
            max_sessions: None,
            max_connections: None,
            no_pty: false,
            no_local: None,
            no_remote: None,
            no_files: None,
            not_pinned: None,
            read_only: None,
            denies_command: None,
            deny_commands: CommandList::default(),
            no_replication: false,
            redact_parameters: false,
            forwarding: false,
            agent: false,
            replication: false,
            session_mfa: cluster.require_session_mfa,
            until: None,
        }
    }

    /// Takes in the options of a role that is held. Every one counts, so all are named.
    fn held(&mut self, request: Request<'_>, role: &'a Role) {
        let name = role.name();
        let RoleOptions {
            // For issuing certificates.
            max_session_ttl: _,
            client_idle_timeout,
            disconnect_expired_cert,
            record_session,
            // For the roles that allow.
            port_forwarding: _,
            forward_agent: _,
            require_session_mfa: _,
            ssh_port_forwarding,
            ssh_file_copy,
            permit_pty,
            pin_source_ip,
            max_sessions,
            max_connections,
            db_read_only,
            // For accounts that are made.
            create_db_user_mode: _,
            // Compiled, in the role.
            db_deny_commands: _,
            db_replication,
            db_redact_parameters,
        } = role.options();
        self.idle = least(self.idle, client_idle_timeout.and_then(limit));
        self.end_with_certificate |= *disconnect_expired_cert == Some(true);
        let record = match request {
            Request::Ssh { .. } => record_session.ssh,
            Request::Database { .. } => record_session.db,
            Request::App(_) => record_session.app,
            Request::Kubernetes { .. } => record_session.k8s,
            Request::Desktop { .. } => record_session.desktop,
            Request::See(_) | Request::Api { .. } => None,
        };
        // The strictest mode is the greatest, and no opinion is less than any.
        self.record = self.record.max(record.or(record_session.default));
        self.max_sessions = least(self.max_sessions, *max_sessions);
        self.max_connections = least(self.max_connections, *max_connections);
        self.no_pty |= *permit_pty == Some(false);
        let forbid = |seen: &mut Option<&'a RoleName>, forbidden: bool| {
            if forbidden {
                seen.get_or_insert(name);
            }
        };
        forbid(&mut self.no_local, ssh_port_forwarding.local.enabled == Some(false));
        forbid(&mut self.no_remote, ssh_port_forwarding.remote.enabled == Some(false));
        forbid(&mut self.no_files, *ssh_file_copy == Some(false));
        let unpinned = self.identity.source_pin.is_none();
        forbid(&mut self.not_pinned, *pin_source_ip == Some(true) && unpinned);
        forbid(&mut self.read_only, *db_read_only == Some(true));
        match request {
            Request::Database { statement: Some(Statement { command, .. }), .. } => {
                forbid(&mut self.denies_command, role.deny_commands().forbids(command));
            }
            Request::Database { statement: None, .. } => {
                self.deny_commands = self.deny_commands.union(role.deny_commands());
            }
            _ => {}
        }
        self.no_replication |= *db_replication == Some(false);
        self.redact_parameters |= *db_redact_parameters == Some(true);
    }

    /// Takes in the options of a role that allows, and until when it is held.
    fn allowing(&mut self, options: &RoleOptions, until: Option<Timestamp>) {
        self.forwarding |= options.port_forwarding != Some(false);
        self.agent |= options.forward_agent == Some(true);
        self.replication |= options.db_replication == Some(true);
        self.session_mfa |= options.require_session_mfa == Some(true);
        self.until = self.until.max(Some(until.unwrap_or(Timestamp::MAX)));
    }

    fn finish(
        self,
        request: Request<'_>,
        who: &VerifiedIdentity,
    ) -> Result<(SessionLimits, DatabaseGrant), Reason> {
        if let Some(role) = self.not_pinned {
            return Err(Reason::NotPinned(role.clone()));
        }
        if self.session_mfa
            && let Some(resource) = request.resource()
            && !matches!(request, Request::See(_))
            && (self.identity.mfa.is_none() || self.identity.route.as_ref() != Some(&resource.id))
        {
            return Err(Reason::SessionMfa(resource.id.clone()));
        }
        if let Request::Ssh { part, .. } = request {
            self.check_ssh(part)?;
        }
        if let Request::Database { statement: Some(statement), .. } = request {
            self.check_statement(statement)?;
        }
        let certificate =
            if self.end_with_certificate { who.validity().not_after() } else { Timestamp::MAX };
        let limits = SessionLimits {
            expires: certificate.min(self.until.unwrap_or(Timestamp::MAX)),
            idle: self.idle,
            record: self.record.unwrap_or(self.cluster.session_recording),
            max_sessions: self.max_sessions,
            max_connections: self.max_connections,
            permit_pty: !self.no_pty,
            local_forwarding: self.forwarding && self.no_local.is_none(),
            remote_forwarding: self.forwarding && self.no_remote.is_none(),
            forward_agent: self.agent,
            file_copy: self.no_files.is_none(),
        };
        let database = DatabaseGrant {
            read_only: self.read_only.is_some(),
            replication: self.replication && !self.no_replication,
            redact_parameters: self.redact_parameters,
            deny_commands: self.deny_commands,
            create_user: CreateDbUserMode::Off,
            roles: Arc::default(),
        };
        Ok((limits, database))
    }

    fn check_statement(&self, statement: Statement<'_>) -> Result<(), Reason> {
        let (option, role) = match (self.denies_command, self.read_only) {
            (Some(role), _) => ("db_deny_commands", role),
            (None, Some(role)) if statement.writes => ("db_read_only", role),
            _ => return Ok(()),
        };
        Err(Reason::Statement { command: statement.command.into(), option, role: role.clone() })
    }

    fn check_ssh(&self, part: SshPart) -> Result<(), Reason> {
        let (option, permitted, forbidden_by) = match part {
            SshPart::Session => return Ok(()),
            SshPart::Files => ("ssh_file_copy", true, self.no_files),
            SshPart::Forward => match self.no_local {
                Some(role) => ("ssh_port_forwarding.local", true, Some(role)),
                None => ("port_forwarding", self.forwarding, None),
            },
            SshPart::Listen => match self.no_remote {
                Some(role) => ("ssh_port_forwarding.remote", true, Some(role)),
                None => ("port_forwarding", self.forwarding, None),
            },
            SshPart::Agent => ("forward_agent", self.agent, None),
        };
        if permitted && forbidden_by.is_none() {
            Ok(())
        } else {
            Err(Reason::Option { option, role: forbidden_by.cloned() })
        }
    }
}

/// A span as a limit; `never` is none.
fn limit(span: crate::role::Span) -> Option<Duration> {
    (!span.is_never()).then(|| span.as_duration())
}

pub(super) fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
