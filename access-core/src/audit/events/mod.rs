//! Every kind of event, defined once.
//!
//! A kind is one entry in a file of this folder. To add one: write the entry, then name it in the
//! list below. Fields that are added to a kind later must be optional.

use serde::ser::SerializeMap;
use serde_json::{Map, Value};

use super::field::FieldError;
use super::kind::{EventKind, Kind, Severity};
use super::text::Text;

mod access;
mod database;
mod join;
mod log;
mod resource;
mod session;
mod shared;
mod ssh;
mod user;

pub use access::*;
pub use database::*;
pub use join::*;
pub use log::*;
pub use resource::*;
pub use session::*;
pub use shared::*;
pub use ssh::*;
pub use user::*;

event_catalogue! {
    // session
    SessionStart, SessionJoin, SessionLeave, SessionEnd, SessionData, SessionUpload,
    SessionRejected, SessionRecordingAccess, SessionNetwork, Resize, ClientDisconnect,
    // ssh
    Exec, Subsystem, Port, Scp, Sftp, SftpSummary, AgentForward, X11Forward,
    // user
    UserLogin, UserLogout, UserCreate, UserUpdate, UserDelete, UserPasswordChange,
    ResetPasswordTokenCreate, MfaAdd, MfaDelete,
    // access
    Auth, AccessDecision, CertCreate, RoleCreated, RoleUpdated, RoleDeleted, LockCreated,
    LockDeleted,
    // join
    JoinTokenCreate, JoinTokenDelete, InstanceJoin, BotJoin, BotCreate, BotUpdate, BotDelete,
    // resource
    ResourceCreate, ResourceUpdate, ResourceDelete, ResourceRelease,
    // database
    DbSessionStart, DbSessionEnd, DbSessionQuery, DbSessionQueryFailed, DbSessionResult,
    DbSessionCancel, DbSessionMalformedPacket, DbSessionPermissionsUpdate, DbSessionUserCreate,
    DbSessionUserDeactivate, DbPostgresParse, DbPostgresBind, DbPostgresExecute, DbPostgresClose,
    DbPostgresFunctionCall,
    // log
    AuditDropped, AuditGap,
}

/// Every kind, for the reference that the documentation and `accessctl` print.
///
/// ```
/// assert!(access_core::audit::kinds().any(|kind| kind.name == "session.start"));
/// ```
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter()
}

/// An event of a kind that this version does not know, kept as it was read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UnknownEvent {
    /// What it calls itself.
    pub name: Text<256>,
    /// Its code.
    pub code: Text<256>,
    /// Its fields, without those of the envelope.
    pub fields: Map<String, Value>,
}

impl Event {
    /// How much attention it asks for.
    pub fn severity(&self) -> Severity {
        Severity::of_code(self.code())
    }

    /// Whether somebody who proved no identity can cause such an event; see
    /// [`Code::by_stranger`](super::Code::by_stranger).
    pub fn is_by_stranger(&self) -> bool {
        let code = self.code();
        self.kind().is_some_and(|kind| {
            kind.codes.iter().any(|known| known.code == code && known.by_stranger)
        })
    }

    /// Makes an event of a name, a code and fields. What is not known, or doesn't read as its
    /// kind, is kept whole as [`Event::Unknown`]; the second value has the fields that a known
    /// kind does not know.
    pub(super) fn read(
        name: Text<256>,
        code: Text<256>,
        fields: Map<String, Value>,
    ) -> (Self, Map<String, Value>) {
        let known = KINDS.iter().any(|kind| kind.name == name.as_str());
        if known {
            let mut rest = fields.clone();
            if let Some(Ok(event)) = Self::read_known(name.as_str(), code.as_str(), &mut rest) {
                return (event, rest);
            }
        }
        (Self::Unknown(UnknownEvent { name, code, fields }), Map::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_definition_is_in_the_catalogue() {
        let listed: HashSet<_> = kinds().map(|kind| kind.name).collect();
        let defined = [
            session::DEFINED,
            ssh::DEFINED,
            user::DEFINED,
            access::DEFINED,
            join::DEFINED,
            resource::DEFINED,
            database::DEFINED,
            log::DEFINED,
        ];
        let defined: HashSet<_> = defined.into_iter().flatten().copied().collect();
        assert_eq!(listed, defined);
        assert_eq!(listed.len(), kinds().count(), "a name is used twice");
    }

    #[test]
    fn codes_and_keys_are_well_formed() {
        let envelope = ["event", "code", "time", "uid", "cluster_name", "writer", "seq"];
        let mut codes = HashSet::new();
        for kind in kinds() {
            assert!(!kind.codes.is_empty() && !kind.docs().is_empty(), "{}", kind.name);
            for code in kind.codes {
                assert!(codes.insert(code.code), "{} is used twice", code.code);
                assert!(code.code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
                assert!(!code.docs().is_empty());
            }
            let mut keys = HashSet::new();
            for field in kind.fields() {
                assert!(!envelope.contains(&field.key), "{} shadows {}", kind.name, field.key);
                assert!(keys.insert(field.key), "{} has {} twice", kind.name, field.key);
                assert!(!field.docs().is_empty());
            }
        }
    }
}
