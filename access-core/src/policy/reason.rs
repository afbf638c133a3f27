//! Why something was denied: in full for administrators, and in short for who asked.

use super::lock::LockTarget;
use crate::ids::{Login, RoleName, UserName};
use crate::resource::ResourceRef;
use crate::time::Timestamp;

/// Why a decision was a denial.
///
/// `Display` is for the audit log and administrators. [`Reason::public`] is for who asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A lock holds.
    #[error("a lock on {target} is in force{}", because(.message))]
    Locked {
        /// On whom or what.
        target: LockTarget,
        /// What its author wrote.
        message: String,
    },
    /// The user does not exist, or no more.
    #[error("the user was removed or never existed")]
    UnknownUser,
    /// The user may do nothing until an administrator says otherwise.
    #[error("the user is locked")]
    UserLocked,
    /// The certificate was issued before the user's certificates became void.
    #[error("the certificate of {issued_at} is void: the user's are valid from {valid_after} on")]
    Void {
        /// When it was issued.
        issued_at: Timestamp,
        /// From when on certificates are good.
        valid_after: Timestamp,
    },
    /// The certificate is bound to addresses, and this is none of them or not known.
    #[error("the certificate may not be used from {}", address(.0))]
    SourcePin(Option<std::net::IpAddr>),
    /// A role demands a certificate that is bound to an address.
    #[error("role {0} demands a certificate that is bound to an address")]
    NotPinned(RoleName),
    /// The certificate is good for one resource, and this is not it.
    #[error("the certificate is good for {0} only")]
    Route(ResourceRef),
    /// The certificate does not name the login.
    #[error("the certificate does not name login {0}")]
    Principal(Login),
    /// The action makes no sense on the target.
    #[error("{action} cannot be done to {target}")]
    Mismatch {
        /// [`Action::name`](super::Action::name).
        action: &'static str,
        /// The target.
        target: String,
    },
    /// A role that is held could not be read, so nobody knows what it would deny.
    #[error("role {role} cannot be read: {why}")]
    UnreadableRole {
        /// The role.
        role: RoleName,
        /// What is wrong with it.
        why: String,
    },
    /// A role denies it.
    #[error("denied by role {0}")]
    DeniedBy(RoleName),
    /// No role allows it.
    #[error("no role allows {action} on {target}")]
    NotAllowed {
        /// [`Action::name`](super::Action::name).
        action: &'static str,
        /// The target.
        target: String,
    },
    /// The session would be allowed, but an option of a role forbids this in it.
    #[error("not permitted by the option {option}{}", of_role(.role))]
    Option {
        /// The option.
        option: &'static str,
        /// The role that forbids it; none when no role permits it.
        role: Option<RoleName>,
    },
    /// The session is allowed, but an option of a role forbids this statement in it.
    #[error("{command} is not permitted by the option {option} of role {role}")]
    Statement {
        /// What the statement carries out.
        command: String,
        /// The option.
        option: &'static str,
        /// The role that forbids it.
        role: RoleName,
    },
    /// A second factor is demanded for each session.
    #[error("a certificate for {0} with a second factor is demanded")]
    SessionMfa(ResourceRef),
    /// The cluster's own services may do only what is built in.
    #[error("the services of this host may not {action} {target}")]
    Service {
        /// [`Action::name`](super::Action::name).
        action: &'static str,
        /// The target.
        target: String,
    },
    /// It would be allowed, but the resource is served no more: it was removed, say.
    #[error("{0} is no longer served")]
    Gone(ResourceRef),
    /// The account on the database is made for who asks, and is called as they are.
    #[error("accounts on this database are made: {0} has the one of that name and no other")]
    OwnAccount(UserName),
    /// The account that would be made on the database is there for something else.
    #[error("no account can be made for {0}: the name is reserved on this database")]
    NoAccount(UserName),
    /// Some other policy than roles denied it.
    #[error("{0}")]
    Other(String),
}

impl Reason {
    /// The text for who asked. What depends on the target says the same whether the target exists
    /// or not.
    pub fn public(&self) -> String {
        match self {
            Self::UnknownUser | Self::Void { .. } => {
                "your certificate is no longer good: log in again"
            }
            Self::UserLocked
            | Self::Locked {
                target:
                    LockTarget::User(_) | LockTarget::MfaDevice(_) | LockTarget::AccessRequest(_),
                ..
            } => "you are locked out: ask an administrator",
            Self::SourcePin(_) => "your certificate may not be used from this address",
            Self::NotPinned(_) => "your certificate must be bound to an address: log in again",
            Self::Route(_) => "your certificate was made for another target",
            Self::UnreadableRole { .. } => "one of your roles cannot be read: ask an administrator",
            // These are reached only by who may know the target.
            Self::Option { option, .. } => {
                return format!("your roles do not permit this: {option}");
            }
            Self::Statement { command, option, .. } => {
                return format!("your roles do not permit {command}: {option}");
            }
            Self::OwnAccount(name) => {
                return format!(
                    "your account on this database is made for you: connect as {name}, and as \
                     nobody else"
                );
            }
            Self::NoAccount(name) => {
                return format!("no account can be made for you: the name {name} is reserved");
            }
            Self::SessionMfa(_) => "a second factor is needed for this session",
            Self::Gone(resource) => return format!("{resource} is no longer served"),
            Self::Locked {
                target:
                    LockTarget::Role(_)
                    | LockTarget::Login(_)
                    | LockTarget::Node(_)
                    | LockTarget::Resource(_),
                ..
            }
            | Self::Principal(_)
            | Self::Mismatch { .. }
            | Self::DeniedBy(_)
            | Self::NotAllowed { .. }
            | Self::Service { .. }
            | Self::Other(_) => "access denied, or there is no such thing",
        }
        .to_owned()
    }
}

fn because(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn address(address: &Option<std::net::IpAddr>) -> String {
    address.map_or_else(|| "an unknown address".into(), |address| address.to_string())
}

fn of_role(role: &Option<RoleName>) -> String {
    role.as_ref().map_or_else(String::new, |role| format!(" of role {role}"))
}
