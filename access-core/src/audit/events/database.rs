//! Database sessions.

use super::shared::{Outcome, SessionContext};
use crate::audit::Text;

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
        with session: SessionContext;
        with db: DbTarget;
        with outcome: Outcome;
    }

    /// A database session ended.
    DbSessionEnd = "db.session.end" {
        code "TDB01I";
        with session: SessionContext;
        with db: DbTarget;
    }

    /// A query was run.
    DbSessionQuery = "db.session.query" {
        code "TDB02I";
        with session: SessionContext;
        with db: DbTarget;
        with outcome: Outcome;
        /// The query.
        db_query: Text<65536>,
    }

    /// A query was refused, or the database answered it with an error.
    DbSessionQueryFailed = "db.session.query.failed" {
        code "TDB02W";
        with session: SessionContext;
        with db: DbTarget;
        with outcome: Outcome;
        /// The query.
        db_query: Text<65536>,
    }
}
