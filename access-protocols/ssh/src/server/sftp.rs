//! The events of an SFTP session.

use std::sync::{Mutex, PoisonError};

use access_core::audit::events::{
    Scp, ScpCode, SessionContext, Sftp, SftpCode, SftpSummary, Subsystem, SubsystemCode,
};
use access_core::audit::{AuditError, Durability, Text};

use super::events::Journal;
use super::relay::Outcome;
use crate::sftp_watch::{Done, Operation, SftpWatch};

/// Watches an SFTP session and writes down what it sees.
pub(super) struct SftpJournal {
    journal: Journal,
    watch: Mutex<SftpWatch>,
}

impl SftpJournal {
    pub(super) fn new(journal: Journal) -> Self {
        Self { journal, watch: Mutex::default() }
    }

    /// Looks at what the client sends, before it is handed on.
    pub(super) async fn client(&self, data: &[u8]) -> Result<(), Outcome> {
        let (untracked, kept) = self.watch(|watch| watch.client(data));
        self.write(untracked).await.map_err(Outcome::Audit)?;
        kept.map_err(|breach| {
            let user = &self.journal.context().user;
            tracing::warn!(%user, %breach, "an SFTP session ends that cannot be followed");
            Outcome::Broken(breach.to_string())
        })
    }

    /// Looks at the answers, and has what they settle accepted before they are handed on.
    pub(super) async fn server(&self, data: &[u8]) -> Result<(), Outcome> {
        let settled = self.watch(|watch| watch.server(data));
        self.write(settled).await.map_err(Outcome::Audit)
    }

    /// The session is over.
    pub(super) async fn finish(&self) {
        for done in self.watch(SftpWatch::unsettled) {
            self.journal.note(|session| event(session, done)).await;
        }
        let totals = self.watch(|watch| watch.totals());
        self.journal
            .note(|session| SftpSummary {
                session,
                downloaded_bytes: totals.downloaded,
                uploaded_bytes: totals.uploaded,
                files: totals.files,
            })
            .await;
    }

    async fn write(&self, done: Vec<Done>) -> Result<(), AuditError> {
        for done in done {
            let event = event(self.journal.context().clone(), done);
            self.journal.write(event, Durability::Soon).await?;
        }
        Ok(())
    }

    fn watch<T>(&self, look: impl FnOnce(&mut SftpWatch) -> T) -> T {
        look(&mut self.watch.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn event(session: SessionContext, done: Done) -> Sftp {
    let failed = done.error.is_some();
    let (code, flags) = match done.operation {
        Operation::Open { flags } => {
            (if failed { SftpCode::OpenFailed } else { SftpCode::Open }, Some(flags))
        }
        Operation::Setstat => {
            (if failed { SftpCode::SetstatFailed } else { SftpCode::Setstat }, None)
        }
        Operation::Opendir => {
            (if failed { SftpCode::OpendirFailed } else { SftpCode::Opendir }, None)
        }
        Operation::Remove => (if failed { SftpCode::RemoveFailed } else { SftpCode::Remove }, None),
        Operation::Mkdir => (if failed { SftpCode::MkdirFailed } else { SftpCode::Mkdir }, None),
        Operation::Rmdir => (if failed { SftpCode::RmdirFailed } else { SftpCode::Rmdir }, None),
        Operation::Rename => (if failed { SftpCode::RenameFailed } else { SftpCode::Rename }, None),
        Operation::Symlink => {
            (if failed { SftpCode::SymlinkFailed } else { SftpCode::Symlink }, None)
        }
        Operation::Link => (if failed { SftpCode::LinkFailed } else { SftpCode::Link }, None),
    };
    Sftp {
        code,
        session,
        path: Text::lossy(&done.path),
        target_path: done.target.as_deref().map(Text::lossy),
        working_directory: None,
        flags,
        error: done.error.map(Into::into),
    }
}

/// SFTP is not allowed.
pub(super) fn disallowed(session: SessionContext, why: &str) -> Sftp {
    Sftp {
        code: SftpCode::Disallowed,
        session,
        path: "".into(),
        target_path: None,
        working_directory: None,
        flags: None,
        error: Some(why.into()),
    }
}

/// A command that copies files is not allowed.
pub(super) fn command_disallowed(session: SessionContext, command: &[u8], why: &str) -> Scp {
    Scp {
        code: ScpCode::Disallowed,
        session,
        path: "".into(),
        action: "copy".into(),
        command: Some(Text::lossy(command)),
        exit_error: Some(why.into()),
    }
}

/// The subsystem was asked for; whether it could be started.
pub(super) fn subsystem(session: SessionContext, error: Option<String>) -> Subsystem {
    Subsystem {
        code: if error.is_some() { SubsystemCode::Failed } else { SubsystemCode::Requested },
        session,
        name: "sftp".into(),
        exit_error: error.map(Into::into),
    }
}
