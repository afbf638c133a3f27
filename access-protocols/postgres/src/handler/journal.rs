//! The events of one session.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use access_core::audit::events::{
    DbAnswer, DbPostgresBind, DbPostgresClose, DbPostgresExecute, DbPostgresFunctionCall,
    DbPostgresParse, DbSessionQuery, DbSessionQueryFailed, DbSessionResult, Outcome, SharedDb,
    SharedSession,
};
use access_core::audit::{AuditError, AuditSink, Durability, Event, Text};

use crate::machine::{self, Bound, Note, What};

/// As many events are handed to the sink at once: one that writes in groups can do so.
const BATCH: usize = 30;

/// Writes what one session does.
#[derive(Clone)]
pub(super) struct Journal {
    pub(super) audit: Arc<dyn AuditSink>,
    pub(super) session: SharedSession,
    pub(super) db: SharedDb,
    /// Whether bound values are kept out.
    pub(super) redacted: bool,
    pub(super) deadline: Duration,
}

impl Journal {
    /// Writes an event of which something else depends.
    pub(super) async fn write(&self, event: impl Into<Event>) -> Result<(), AuditError> {
        let accepted = self.audit.accept(event.into(), Durability::Soon);
        self.in_time(accepted).await
    }

    /// Writes an event about something that is over: nothing depends on it.
    pub(super) async fn note(&self, event: impl Into<Event>) {
        let event = event.into();
        let name = event.name().to_owned();
        if let Err(err) = self.write(event).await {
            tracing::warn!(%err, event = name, "an event could not be recorded");
        }
    }

    /// Writes notes, in order. When this returns, what they tell may pass.
    pub(super) async fn accept(&self, notes: Vec<Note>) -> Result<(), AuditError> {
        let mut events = notes.into_iter().filter_map(|note| self.event(note));
        loop {
            let batch: Vec<Event> = events.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(());
            }
            self.in_time(self.audit.accept_all(batch, Durability::Soon)).await?;
        }
    }

    async fn in_time(
        &self,
        accepted: impl Future<Output = Result<(), AuditError>>,
    ) -> Result<(), AuditError> {
        let mut accepted = std::pin::pin!(accepted);
        // Most are accepted at once, and need no clock.
        if let Poll::Ready(result) = futures::poll!(accepted.as_mut()) {
            return result;
        }
        match tokio::time::timeout(self.deadline, accepted).await {
            Ok(result) => result,
            Err(_) => Err(AuditError::Unavailable("it does not answer".into())),
        }
    }

    fn event(&self, note: Note) -> Option<Event> {
        let Note { number: statement, what, outcome, .. } = note;
        let (session, db) = (self.session.clone(), self.db.clone());
        let redacted = self.redacted.then_some(true);
        let known = outcome.is_some();
        let (outcome, answer) = told(outcome.unwrap_or_default());
        Some(match what {
            None if !known => return None,
            None => DbSessionResult { session, db, outcome, answer, statement }.into(),
            Some(What::Query { text: db_query }) if outcome.success => {
                DbSessionQuery { session, db, outcome, answer, statement, db_query }.into()
            }
            Some(What::Query { text: db_query }) => {
                DbSessionQueryFailed { session, db, outcome, answer, statement, db_query }.into()
            }
            Some(What::Parse { name: statement_name, text: query }) => {
                DbPostgresParse { session, db, outcome, answer, statement, statement_name, query }
                    .into()
            }
            Some(What::Bind { portal: portal_name, statement: statement_name, parameters }) => {
                DbPostgresBind {
                    session,
                    db,
                    outcome,
                    answer,
                    statement,
                    statement_name,
                    portal_name,
                    parameters,
                    redacted,
                }
                .into()
            }
            Some(What::Execute { portal: portal_name, max_rows, bound }) => {
                let redacted = redacted.filter(|_| bound.is_some());
                let (statement_name, parameters) = bound
                    .map(|Bound { statement, parameters }| (Some(statement), parameters))
                    .unwrap_or_default();
                DbPostgresExecute {
                    session,
                    db,
                    outcome,
                    answer,
                    statement,
                    statement_name,
                    portal_name,
                    parameters,
                    redacted,
                    max_rows: (max_rows > 0).then_some(max_rows),
                }
                .into()
            }
            Some(What::Close { kind, name }) => {
                let (statement_name, portal_name) = match kind {
                    b'S' => (Some(name), None),
                    _ => (None, Some(name)),
                };
                DbPostgresClose { session, db, statement, statement_name, portal_name }.into()
            }
            Some(What::Call { function: function_oid, arguments: function_args }) => {
                DbPostgresFunctionCall {
                    session,
                    db,
                    outcome,
                    answer,
                    statement,
                    function_oid,
                    function_args,
                    redacted,
                }
                .into()
            }
        })
    }
}

fn told(outcome: machine::Outcome) -> (Outcome, DbAnswer) {
    let machine::Outcome { rows, tag, error, skipped, .. } = outcome;
    let command = (!tag.is_empty()).then(|| Text::from(command_of(&tag)));
    match error {
        Some(error) => {
            let mut answer = DbAnswer::failed(error.message.as_str(), error.code.as_str());
            (answer.rows, answer.command) = (rows, command);
            (Outcome::failed(&error), answer)
        }
        None if skipped => (
            Outcome::failed("not run: something before it in the same batch failed"),
            DbAnswer::default(),
        ),
        None => (Outcome::succeeded(), DbAnswer { rows, command, ..DbAnswer::default() }),
    }
}

/// Tags without their counts.
fn command_of(tags: &str) -> String {
    let mut commands = String::with_capacity(tags.len());
    for tag in tags.split("; ") {
        if !commands.is_empty() {
            commands.push_str("; ");
        }
        commands.push_str(tag.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' '));
    }
    commands
}
