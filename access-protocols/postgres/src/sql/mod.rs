//! What a text of SQL asks for: its statements, what each carries out, and whether it may write.
//!
//! This is a lexer and no parser. It reads the text once, keeps nothing, and where it cannot know
//! it says the worse: what it calls reading reads as far as the text shows, and what it calls
//! writing may be harmless. The server's own read-only transactions are what enforces, because
//! functions can write and a text does not show it; this is what lets a refusal name its reason,
//! and what [`db_deny_commands`](access_core::role::RoleOptions::db_deny_commands) goes by.
//!
//! ```
//! use access_postgres::sql::statements;
//! let text = b"select 1; /* ; */ with d as (delete from t returning *) select ';' from d";
//! let found: Vec<_> = statements(text).map(|s| (s.command(), s.writes)).collect();
//! assert_eq!(found, [("SELECT".into(), false), ("DELETE".into(), true)]);
//! ```
//!
//! **Two readings.** With `standard_conforming_strings` off, a backslash in `'…'` escapes, and the
//! same bytes are other statements. The setting can change with every statement that is under way,
//! so a text in which it matters is read both ways: the statements of the second reading follow
//! with [`Statement::alternative`], and all must be allowed.
//!
//! **Encodings.** The text is read as UTF-8 or in one byte a character; invalid UTF-8 is no
//! matter. A few encodings have characters that contain a backslash's byte. Statements that choose
//! such a one say so in [`Statement::unsafe_encoding`], and [`is_safe_encoding`] is for start-up
//! parameters: whoever judges statements has to refuse both.

mod command;
mod lexer;
mod sketch;
mod split;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use command::{Dml, Tag};
pub use split::Statements;

/// The statements of a text, in order; empty ones are left out.
///
/// Takes time linear in the text's length and allocates nothing.
pub fn statements<T: AsRef<[u8]> + ?Sized>(text: &T) -> Statements<'_> {
    Statements::new(text.as_ref())
}

/// One statement of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// From its first token to its last.
    pub text: &'a [u8],
    /// Whether it may change anything, as far as the text shows. All do but those that are known
    /// to read. Locking rows (`SELECT … FOR UPDATE`) counts as writing, as it does to the server.
    /// `EXECUTE` does not: what it executes was judged when it was prepared.
    pub writes: bool,
    /// Whether it may make the session's transactions writable again.
    pub lifts_read_only: bool,
    /// Whether it would do so only by going back to what the connection started with (`RESET`,
    /// `DISCARD ALL`): harmless where that is read-only.
    pub by_reset: bool,
    /// Whether it chooses an encoding in which later texts could be misread.
    pub unsafe_encoding: bool,
    /// Whether it is in the body of the function before it (`BEGIN ATOMIC`).
    pub nested: bool,
    /// Whether it is one only if backslashes escape in plain strings.
    pub alternative: bool,
    command: Tag<'a>,
    also: Dml,
}

impl Statement<'_> {
    /// What it carries out, as the server names it: `SELECT`, `CREATE TABLE`, `COPY FROM`. Of
    /// several the one that writes most; of `EXPLAIN ANALYZE` and `PREPARE` what is in it. A word
    /// that is not known is given as it is, in upper case.
    pub fn command(&self) -> Cow<'static, str> {
        self.command.name()
    }

    /// All that it carries out, [`command`](Self::command) first: the gate is asked for each.
    pub fn commands(&self) -> impl Iterator<Item = Cow<'static, str>> {
        let first = self.command();
        let others = self.also.names().chain(self.command.alias());
        let others: [Option<&'static str>; 6] = {
            let mut found = [None; 6];
            for (to, name) in found.iter_mut().zip(others.filter(|name| **name != *first)) {
                *to = Some(name);
            }
            found
        };
        std::iter::once(first).chain(others.into_iter().flatten().map(Cow::Borrowed))
    }
}

/// Whether texts in an encoding can be read here, by the name that `client_encoding` takes.
///
/// ```
/// use access_postgres::sql::is_safe_encoding;
/// assert!(is_safe_encoding("UTF-8") && is_safe_encoding("latin1"));
/// assert!(!is_safe_encoding("SJIS") && !is_safe_encoding("anything else"));
/// ```
pub fn is_safe_encoding(name: &str) -> bool {
    command::is_safe_encoding(name.as_bytes())
}
