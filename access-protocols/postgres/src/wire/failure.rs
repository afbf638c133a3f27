//! An error as a client is told.

use std::fmt;

use bytes::Bytes;

/// SQLSTATEs that are used here
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub mod sqlstate {
    /// The target cannot be reached.
    pub const UNABLE_TO_CONNECT: &str = "08001";
    /// The target was reached and could not be used.
    pub const CONNECTION_FAILURE: &str = "08006";
    /// Bytes that are no message.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// Who asks may not.
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// A statement that may not be run.
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    /// A statement that is too long to be judged.
    pub const PROGRAM_LIMIT: &str = "54000";
    /// The session was ended from here.
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// Something that must be written cannot be.
    pub const IO_ERROR: &str = "58030";
    /// A feature that is not supported.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
}

/// An error for a client: what an ErrorResponse says.
///
/// ```
/// use access_postgres::wire::{Failure, sqlstate};
/// let failure = Failure::fatal(sqlstate::INVALID_AUTHORIZATION, "access denied")
///     .hint("ask an administrator for a role");
/// assert_eq!(failure.to_string(), "28000: access denied");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether the session is over with it.
    pub fatal: bool,
    /// The SQLSTATE.
    pub code: String,
    /// What happened, in one line.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// One that ends the session.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { fatal: true, code: code.into(), message: message.into(), detail: None, hint: None }
    }

    /// One that ends a statement.
    pub fn error(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { fatal: false, ..Self::fatal(code, message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The message as it goes over the wire.
    pub fn encode(&self) -> Bytes {
        super::encode::error_response(self)
    }

    /// Adds more about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}
