//! Hands every statement to the gate, before the database sees it.

use std::borrow::Cow;
use std::sync::Arc;

use access_core::policy::Action;
use access_core::role::CommandList;
use access_core::{Gate, Login, Permit};

use crate::machine::Question;
use crate::sql::statements;
use crate::wire::{Failure, sqlstate};

/// As many different commands of one text are remembered as asked.
const MOST_REMEMBERED: usize = 15;

/// After so many decisions over one text others of the runtime are served: a text of a megabyte can
/// ask for hundreds of thousands.
const AT_ONCE: usize = 64;

/// Asks the gate on behalf of one session.
pub(super) struct Judge {
    pub(super) gate: Arc<Gate>,
    pub(super) permit: Permit,
    pub(super) user: Login,
    pub(super) database: Arc<str>,
    /// What was granted last: most statements ask for the same as the one before.
    pub(super) last: Option<Permit>,
    /// A statement of this session may have chosen an encoding in which the next one would be read
    /// as another: from then on each waits until the database has answered the one before, and
    /// with it said which encoding there is. One that cannot be read ends the session.
    pub(super) careful: bool,
}

impl Judge {
    /// Whether a statement may be run; all that it consists of must be.
    ///
    /// # Errors
    /// The [`Failure`] for the client.
    pub(super) async fn judge(&mut self, question: Question<'_>) -> Result<(), Failure> {
        match question {
            Question::Call => self.ask(Cow::Borrowed("FUNCTION CALL"), true).await,
            Question::Statement { text, whole } => {
                // A text of a hundred thousand statements has few commands.
                let mut asked: Vec<(Cow<'static, str>, bool)> = Vec::new();
                let mut decisions = 0;
                for statement in statements(text) {
                    self.careful |= statement.unsafe_encoding;
                    // What a reset goes back to is what the session started with: read only.
                    let lifts = statement.lifts_read_only && !statement.by_reset;
                    let writes = statement.writes || lifts;
                    for command in statement.commands() {
                        if !asked.iter().any(|(known, w)| *known == command && *w == writes) {
                            self.ask(command.clone(), writes).await?;
                            asked.truncate(MOST_REMEMBERED);
                            asked.push((command, writes));
                            decisions += 1;
                            if decisions % AT_ONCE == 0 {
                                tokio::task::yield_now().await;
                            }
                        }
                    }
                }
                if !whole {
                    // What was not looked at can be anything.
                    self.ask(Cow::Borrowed(CommandList::UNREAD), true).await.map_err(|_| {
                        let message = "the statement is too long to be judged";
                        Failure::error(sqlstate::PROGRAM_LIMIT, message)
                    })?;
                }
                Ok(())
            }
        }
    }

    async fn ask(&mut self, command: Cow<'static, str>, writes: bool) -> Result<(), Failure> {
        if self.last.as_ref().is_some_and(|last| {
            matches!(
                last.action(),
                Action::DatabaseStatement { command: c, writes: w, .. }
                    if *c == command && *w == writes
            ) && self.gate.stands(last)
        }) {
            return Ok(());
        }
        let action = Action::DatabaseStatement {
            user: self.user.clone(),
            database: Arc::clone(&self.database),
            command: command.clone(),
            writes,
        };
        match self.gate.authorize_within(&self.permit, action).await {
            Ok(permit) => {
                self.last = Some(permit);
                Ok(())
            }
            Err(denied) => {
                let message = format!("{command} is not allowed here: {}", denied.public());
                Err(Failure::error(sqlstate::INSUFFICIENT_PRIVILEGE, message)
                    .hint("ask an administrator for a role that allows it"))
            }
        }
    }
}
