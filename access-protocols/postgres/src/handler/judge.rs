//! Hands every statement to the gate, before the database sees it.

use std::borrow::Cow;
use std::sync::Arc;

use access_core::policy::Action;
use access_core::{Gate, Login, Permit};

use crate::machine::Question;
use crate::wire::{Failure, sqlstate};

/// Asks the gate on behalf of one session.
pub(super) struct Judge {
    pub(super) gate: Arc<Gate>,
    pub(super) permit: Permit,
    pub(super) user: Login,
    pub(super) database: Arc<str>,
}

impl Judge {
    /// Whether a statement may be run; all that it consists of must be.
    ///
    /// # Errors
    /// The [`Failure`] for the client.
    pub(super) async fn judge(&self, question: Question<'_>) -> Result<(), Failure> {
        match question {
            Question::Call => self.ask(Cow::Borrowed("FUNCTION CALL"), true).await,
            Question::Statement { text, whole } => {
                let text = String::from_utf8_lossy(text);
                for word in text.split(';').filter_map(|part| part.split_whitespace().next()) {
                    let word = word.to_ascii_uppercase();
                    let writes = !matches!(word.as_str(), "SELECT" | "SHOW" | "BEGIN" | "COMMIT");
                    self.ask(Cow::Owned(word), writes).await?;
                }
                if !whole {
                    // What was not looked at can be anything.
                    self.ask(Cow::Borrowed("UNKNOWN"), true).await.map_err(|_| {
                        let message = "the statement is too long to be judged";
                        Failure::error(sqlstate::PROGRAM_LIMIT, message)
                    })?;
                }
                Ok(())
            }
        }
    }

    async fn ask(&self, command: Cow<'static, str>, writes: bool) -> Result<(), Failure> {
        let action = Action::DatabaseStatement {
            user: self.user.clone(),
            database: Arc::clone(&self.database),
            command: command.clone(),
            writes,
        };
        match self.gate.authorize_within(&self.permit, action).await {
            Ok(_) => Ok(()),
            Err(denied) => {
                let message = format!("{command} is not allowed here: {}", denied.public());
                Err(Failure::error(sqlstate::INSUFFICIENT_PRIVILEGE, message)
                    .hint("ask an administrator for a role that allows it"))
            }
        }
    }
}
