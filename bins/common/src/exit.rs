//! Exit codes, and the one way in which a program ends with an error.

use std::fmt;

use crate::sanitise::plain_lines;

/// What a program's exit tells (see the contract of the command line).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// It failed.
    Failed = 1,
    /// It was called wrongly.
    Usage = 2,
    /// The policy says no.
    Denied = 3,
    /// Not logged in, or no more.
    NotLoggedIn = 4,
    /// What it needs cannot be reached.
    Unreachable = 5,
}

/// An error that ends a program.
#[derive(Debug)]
pub struct Exit {
    code: ExitCode,
    message: String,
}

impl Exit {
    /// An error with a code.
    pub fn new(code: ExitCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// A plain failure.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Failed, message)
    }

    /// A wrong call.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// The code.
    pub fn code(&self) -> ExitCode {
        self.code
    }

    /// Prints the message to standard error and gives the code to return from `main`.
    pub fn report(&self, program: &str) -> std::process::ExitCode {
        use std::io::Write;
        // Standard error may be closed; then there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{program}: {}", plain_lines(&self.message));
        std::process::ExitCode::from(self.code as u8)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Exit {}
