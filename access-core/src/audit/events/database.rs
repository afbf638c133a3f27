//! Database sessions.
//!
//! Statements are numbered through a session from 1, in the order in which they came. A statement
//! leaves its event before the first byte of its answer passes. When the answer was over by then,
//! the event says how it went; otherwise a [`DbSessionResult`] with the same number says it later.

use super::shared::{Outcome, SharedSession};
use crate::audit::{List, Parameters, Shared, Text};
use crate::ids::SessionId;
use crate::time::Timestamp;

event_fields! {
    /// Which database, as whom.
    ///
    /// ```
    /// use access_core::audit::events::DbTarget;
    /// let target = DbTarget {
    ///     db_service: "orders".into(),
    ///     db_protocol: "postgres".into(),
    ///     db_uri: None,
    ///     db_name: Some("orders".into()),
    ///     db_user: Some("reader".into()),
    /// };
    /// # let _ = target;
    /// ```
    DbTarget {
        /// The database's name in the cluster.
        db_service: Text<256>,
        /// Its protocol: `postgres`, `mysql`, …
        db_protocol: Text<64>,
        /// Where it is.
        db_uri: Option<Text<512>>,
        /// The database in it.
        db_name: Option<Text<256>>,
        /// The account in it.
        db_user: Option<Text<256>>,
    }

    /// How a statement went, as far as it is known.
    ///
    /// ```
    /// use access_core::audit::events::DbAnswer;
    /// let unknown = DbAnswer::default();
    /// let failed = DbAnswer::failed("relation \"t\" does not exist", "42P01");
    /// assert!(unknown.error_code.is_none() && failed.rows.is_none());
    /// ```
    DbAnswer {
        /// How many rows it gave or changed.
        rows: Option<u64>,
        /// What the database said of it: `SELECT`, `INSERT`, `CREATE TABLE`, …
        command: Option<Text<64>>,
        /// The SQLSTATE of its error.
        error_code: Option<Text<64>>,
        /// The error's text.
        error_message: Option<Text>,
    }
}

/// The target of a database session, made once and shared by its events.
pub type SharedDb = Shared<DbTarget>;

impl Default for DbAnswer {
    /// Nothing is known yet.
    fn default() -> Self {
        Self { rows: None, command: None, error_code: None, error_message: None }
    }
}

impl DbAnswer {
    /// It went well.
    pub fn done(command: impl Into<Text<64>>, rows: Option<u64>) -> Self {
        Self { rows, command: Some(command.into()), ..Self::default() }
    }

    /// The database, or whoever stands before it, answered with an error.
    pub fn failed(message: impl Into<Text>, sqlstate: impl Into<Text<64>>) -> Self {
        let (error_code, error_message) = (Some(sqlstate.into()), Some(message.into()));
        Self { error_code, error_message, ..Self::default() }
    }
}

events! {
    area "database";

    /// A database session was opened, or refused.
    DbSessionStart = "db.session.start" {
        codes DbSessionStartCode {
            /// It was opened.
            Started = "TDB00I",
            /// It was refused.
            Denied = "TDB00W",
        }
        with session: SharedSession;
        with db: SharedDb;
        with outcome: Outcome;
        /// What the client calls itself.
        application_name: Option<Text<256>>,
        /// Whether it is a connection for replication.
        replication: Option<bool>,
        /// Where it is recorded: `node`, `off`, or another place.
        session_recording: Option<Text<64>>,
    }

    /// A database session ended. Every session that started leaves exactly one, whatever ended it.
    DbSessionEnd = "db.session.end" {
        code "TDB01I";
        with session: SharedSession;
        with db: SharedDb;
        /// When it started.
        session_start: Option<Timestamp>,
        /// When it ended.
        session_stop: Option<Timestamp>,
        /// Why it ended: `client`, `server`, `locked`, `certificate expired`, `idle`,
        /// `audit failed`, `agent stopped`, …
        reason: Option<Text<256>>,
        /// How many statements it had.
        statements: Option<u64>,
        /// Bytes sent to the client.
        tx: u64,
        /// Bytes received from the client.
        rx: u64,
        /// Whether a recording was kept, and where.
        session_recording: Option<Text<64>>,
    }

    /// A query was sent to the database.
    DbSessionQuery = "db.session.query" {
        code "TDB02I";
        with session: SharedSession;
        with db: SharedDb;
        with outcome: Outcome;
        with answer: DbAnswer;
        /// Which statement of the session it is, from 1.
        statement: u64,
        /// The query.
        db_query: Text<65536>,
    }

    /// A query was refused, or the database answered it with an error.
    DbSessionQueryFailed = "db.session.query.failed" {
        code "TDB02W";
        with session: SharedSession;
        with db: SharedDb;
        with outcome: Outcome;
        with answer: DbAnswer;
        /// Which statement of the session it is, from 1.
        statement: u64,
        /// The query.
        db_query: Text<65536>,
    }

    /// A statement was answered whose answer was not over when its own event was written.
    DbSessionResult = "db.session.result" {
        code "TDB10I";
        with session: SharedSession;
        with db: SharedDb;
        with outcome: Outcome;
        with answer: DbAnswer;
        /// Which statement of the session it is, from 1.
        statement: u64,
    }

    /// Somebody asked to cancel what a session is doing. Such requests come on a connection of
    /// their own and prove nothing but that they know the session's secret.
    DbSessionCancel = "db.session.cancel" {
        codes DbSessionCancelCode {
            /// It was passed on.
            Passed = "ACB00I",
            /// It was not: the secret is wrong, or there is no such session.
            Refused = "ACB00W" (stranger),
        }
        with outcome: Outcome;
        /// The session that is meant, when there is one.
        sid: Option<SessionId>,
        /// The user of that session.
        user: Option<Text<256>>,
        /// The database's name in the cluster.
        db_service: Option<Text<256>>,
        /// The last statement that the session had when it was asked.
        statement: Option<u64>,
        /// From which address.
        addr_remote as "addr.remote": Option<Text<256>>,
    }

    /// A client or a database sent what its protocol does not allow.
    DbSessionMalformedPacket = "db.session.malformed_packet" {
        code "TDB06I";
        with session: SharedSession;
        with db: SharedDb;
        /// What is wrong with it.
        error: Text,
        /// Its first bytes, in hexadecimal.
        payload: Option<Text<256>>,
    }

    /// The rights of an account that was made for a session were set.
    DbSessionPermissionsUpdate = "db.session.permissions.update" {
        code "TDB07I";
        with session: SharedSession;
        with db: SharedDb;
        /// The roles that it was given.
        roles: List,
    }

    /// An account was made for a session, or enabled again.
    DbSessionUserCreate = "db.session.user.create" {
        codes DbSessionUserCreateCode {
            /// It was made.
            Created = "TDB08I",
            /// It could not be made.
            Failed = "TDB08W",
        }
        with session: SharedSession;
        with db: SharedDb;
        with outcome: Outcome;
        /// The account.
        username: Text<256>,
        /// The roles that it was to get.
        roles: List,
    }

    /// An account that was made for a session was disabled or dropped.
    DbSessionUserDeactivate = "db.session.user.deactivate" {
        codes DbSessionUserDeactivateCode {
            /// It was.
            Deactivated = "TDB09I",
            /// It could not be.
            Failed = "TDB09W",
        }
        with session: SharedSession;
        with db: SharedDb;
        with outcome: Outcome;
        /// The account.
        username: Text<256>,
        /// Whether it was to be dropped, and not only disabled.
        delete: bool,
        /// Whether it is gone. One that owns something is disabled instead.
        deleted: Option<bool>,
    }

    /// A statement was prepared (extended protocol).
    DbPostgresParse = "db.session.postgres.statements.parse" {
        code "TPG00I";
        with session: SharedSession;
        with db: SharedDb;
        with outcome: Outcome;
        with answer: DbAnswer;
        /// Which statement of the session it is, from 1.
        statement: u64,
        /// The prepared statement's name; empty for the nameless one.
        statement_name: Text<256>,
        /// The query.
        query: Text<65536>,
    }

    /// Values were bound to a prepared statement. When the portal is executed at once, its
    /// [`DbPostgresExecute`] says so, and there is no event of this kind.
    DbPostgresBind = "db.session.postgres.statements.bind" {
        code "TPG01I";
        with session: SharedSession;
        with db: SharedDb;
        with outcome: Outcome;
        with answer: DbAnswer;
        /// Which statement of the session it is, from 1.
        statement: u64,
        /// The prepared statement's name; empty for the nameless one.
        statement_name: Text<256>,
        /// The portal's name; empty for the nameless one.
        portal_name: Text<256>,
        /// The values; null is NULL.
        parameters: Parameters,
        /// Whether the values are left out because a role demands it.
        redacted: Option<bool>,
    }

    /// A portal was executed. When values were bound to it just before, the event tells of both:
    /// then it has `statement_name`, and an error may be of the binding.
    DbPostgresExecute = "db.session.postgres.statements.execute" {
        code "TPG02I";
        with session: SharedSession;
        with db: SharedDb;
        with outcome: Outcome;
        with answer: DbAnswer;
        /// Which statement of the session it is, from 1.
        statement: u64,
        /// The prepared statement's name, when it was bound just before; empty for the nameless one.
        statement_name: Option<Text<256>>,
        /// The portal's name; empty for the nameless one.
        portal_name: Text<256>,
        /// The values that were bound just before; null is NULL.
        parameters: Parameters,
        /// Whether the values are left out because a role demands it.
        redacted: Option<bool>,
        /// The most rows that were asked for; none for all.
        max_rows: Option<u32>,
    }

    /// A prepared statement or a portal was closed.
    DbPostgresClose = "db.session.postgres.statements.close" {
        code "TPG03I";
        with session: SharedSession;
        with db: SharedDb;
        /// Which statement of the session it is, from 1.
        statement: u64,
        /// The prepared statement's name, when it was one.
        statement_name: Option<Text<256>>,
        /// The portal's name, when it was one.
        portal_name: Option<Text<256>>,
    }

    /// A function was called by its number, without a statement.
    DbPostgresFunctionCall = "db.session.postgres.function" {
        code "TPG04I";
        with session: SharedSession;
        with db: SharedDb;
        with outcome: Outcome;
        with answer: DbAnswer;
        /// Which statement of the session it is, from 1.
        statement: u64,
        /// The function's number.
        function_oid: u32,
        /// Its arguments; null is NULL.
        function_args: Parameters,
        /// Whether the arguments are left out because a role demands it.
        redacted: Option<bool>,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::events::SessionContext;
    use crate::audit::{Envelope, Event, MAX_EVENT_BYTES, Parameter, Stamper};
    use crate::ids::{ClusterName, HostId, Login, UserName, WriterId};
    use crate::time::ManualClock;

    fn session() -> (SharedSession, SharedDb) {
        let session = SessionContext {
            user: UserName::new("alice").unwrap(),
            login: Some(Login::new("reader").unwrap()),
            sid: SessionId::from_random([7; 16]),
            server_id: HostId::new("h-1").unwrap(),
            server_hostname: Some("orders".into()),
            proto: "postgres".into(),
            addr_remote: Some("203.0.113.7:40112".into()),
            addr_local: None,
            user_roles: List::from_iter(["access"]),
            trace_id: None,
        };
        let db = DbTarget {
            db_service: "orders".into(),
            db_protocol: "postgres".into(),
            db_uri: Some("db.internal:5432".into()),
            db_name: Some("orders".into()),
            db_user: Some("reader".into()),
        };
        (session.into(), db.into())
    }

    fn written(event: Event) -> Vec<u8> {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_767_323_045)));
        let cluster = ClusterName::new("example.com").unwrap();
        let stamper = Stamper::new(cluster, WriterId::new("w-1").unwrap(), 1, clock);
        let envelope = stamper.stamp(event);
        let json = envelope.to_json().unwrap();
        assert_eq!(Envelope::from_json(&json).unwrap(), envelope);
        // What is shared was written by now, and is spliced in.
        assert_eq!(envelope.to_json().unwrap(), serde_json::to_vec(&envelope).unwrap());
        json
    }

    #[test]
    fn a_bind_tells_null_from_text_and_says_what_was_redacted() {
        let (session, db) = session();
        let bind = |parameters: Parameters, redacted| DbPostgresBind {
            session: session.clone(),
            db: db.clone(),
            outcome: Outcome::succeeded(),
            answer: DbAnswer::default(),
            statement: 2,
            statement_name: "".into(),
            portal_name: "".into(),
            parameters,
            redacted,
        };
        let values = [Parameter::Text(b"null"), Parameter::Null].into_iter().collect();
        let json: serde_json::Value =
            serde_json::from_slice(&written(bind(values, None).into())).unwrap();
        assert_eq!(json["parameters"], serde_json::json!(["null", null]));
        assert_eq!(
            (&json["event"], &json["code"], &json["statement"], &json["success"]),
            (
                &"db.session.postgres.statements.bind".into(),
                &"TPG01I".into(),
                &2.into(),
                &true.into(),
            )
        );
        assert!(json.get("redacted").is_none());
        let json: serde_json::Value =
            serde_json::from_slice(&written(bind(Parameters::default(), Some(true)).into()))
                .unwrap();
        assert!(json.get("parameters").is_none() && json["redacted"] == true);
    }

    /// A client that could write an event too large could keep it out of the log, or end its own
    /// session in a way that looks like ours.
    #[test]
    fn the_worst_statement_fits_into_an_event() {
        let (session, db) = session();
        let hostile = vec![1_u8; 1 << 20];
        let query = DbSessionQueryFailed {
            session: session.clone(),
            db: db.clone(),
            outcome: Outcome::failed("\u{1}".repeat(1 << 16)),
            answer: DbAnswer::failed("\u{1}".repeat(1 << 16), "XX000"),
            statement: u64::MAX,
            db_query: Text::lossy(&hostile),
        };
        let json = written(query.into());
        assert!(json.len() < MAX_EVENT_BYTES, "{}", json.len());
        let name: Text<256> = Text::lossy(&hostile);
        let bind = DbPostgresBind {
            session,
            db,
            outcome: Outcome::succeeded(),
            answer: DbAnswer::default(),
            statement: 1,
            statement_name: name.clone(),
            portal_name: name,
            parameters: std::iter::repeat_n(Parameter::Text(&hostile), 70_000).collect(),
            redacted: None,
        };
        let json = written(bind.into());
        assert!(json.len() < MAX_EVENT_BYTES, "{}", json.len());
    }
}
