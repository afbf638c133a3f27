//! Who may do what: authentication on targets, decisions, certificates, roles, locks.

use super::shared::{Actor, Outcome};
use crate::audit::{List, Object, Text};
use crate::ids::SessionId;
use crate::time::Timestamp;

events! {
    area "access";

    /// Somebody could not authenticate with an agent, a proxy or the API: the certificate is
    /// none of this cluster's, has expired, or does not have what was asked for.
    Auth = "auth" {
        code "T3007W" (stranger);
        with outcome: Outcome;
        /// The name that was claimed.
        user: Text<256>,
        /// The account on the target that was asked for.
        login: Option<Text<256>>,
        /// From which address.
        addr_remote as "addr.remote": Option<Text<256>>,
        /// The target.
        server_hostname: Option<Text<256>>,
        /// Over which protocol.
        proto: Option<Text<64>>,
    }

    /// The gate decided whether somebody may do something with a target.
    AccessDecision = "access.decision" {
        codes AccessDecisionCode {
            /// It is allowed.
            Allowed = "ACD00I",
            /// It is denied.
            Denied = "ACD00W",
        }
        /// Who asked.
        user: Text<256>,
        /// What for: `ssh.shell`, `ssh.exec`, `db.connect`, …
        action: Text<64>,
        /// The kind of the target: `node`, `db`, `app`, …
        target_kind: Text<64>,
        /// The target's name.
        target: Text<256>,
        /// The account on the target that was asked for.
        login: Option<Text<256>>,
        /// Why it was decided so.
        reason: Text,
        /// The user's roles.
        user_roles: List,
        /// The session that it is for.
        sid: Option<SessionId>,
        /// From which address.
        addr_remote as "addr.remote": Option<Text<256>>,
        /// Ties together what one connection caused on several machines.
        trace_id: Option<Text<64>>,
    }

    /// A certificate was issued.
    CertCreate = "cert.create" {
        code "TC000I";
        /// What it is for: `user`, `host`, `bot`.
        cert_type: Text<64>,
        /// What stands in it: `user`, `roles`, `logins`, `expires`, `serial`, …
        identity: Object,
    }

    /// A role was created.
    RoleCreated = "role.created" {
        code "T9000I";
        with actor: Actor;
        /// The role.
        name: Text<256>,
    }

    /// A role was deleted.
    RoleDeleted = "role.deleted" {
        code "T9001I";
        with actor: Actor;
        /// The role.
        name: Text<256>,
    }

    /// A role was changed.
    RoleUpdated = "role.updated" {
        code "T9002I";
        with actor: Actor;
        /// The role.
        name: Text<256>,
    }

    /// Something was locked out.
    LockCreated = "lock.created" {
        code "TLK00I";
        with actor: Actor;
        /// The lock.
        name: Text<256>,
        /// What is locked: `user`, `role`, `login`, `node`, …, and its name.
        target: Object,
        /// Why.
        message: Option<Text>,
        /// Until when.
        expires: Option<Timestamp>,
    }

    /// A lock was lifted.
    LockDeleted = "lock.deleted" {
        code "TLK01I";
        with actor: Actor;
        /// The lock.
        name: Text<256>,
    }
}
