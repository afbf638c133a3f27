//! The one error of this crate, and what callers of the API are told of it.

use std::path::PathBuf;

use access_core::document::DocumentError;
use access_core::ids::IdError;
use tonic::{Code, Status};

/// What can go wrong in the Auth Service.
///
/// The first group is the caller's fault and told to them as it stands; the second is ours: it is
/// told to operators, and callers learn only that something failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The caller's fault.
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The caller did not prove to be anybody, or no longer.
    #[error("{0}")]
    Unauthenticated(String),
    /// The policy says no.
    #[error("{0}")]
    Denied(String),
    /// It is not there, or not for the caller to see.
    #[error("{0}")]
    NotFound(String),
    /// It is there already.
    #[error("{0}")]
    AlreadyExists(String),
    /// It has changed since it was read.
    #[error("{0}")]
    Conflict(String),
    /// It can't be done in the present state: a token is spent, a name is taken.
    #[error("{0}")]
    Precondition(String),
    /// Too much at once.
    #[error("{0}")]
    Limited(String),
    /// It took too long.
    #[error("{0}")]
    Deadline(String),

    // Ours.
    /// The store refused or failed.
    #[error(transparent)]
    Storage(#[from] access_backend::Error),
    /// The certificate authority refused or failed.
    #[error(transparent)]
    Authority(#[from] access_ca::Error),
    /// The audit log can't be written, so that nothing may happen that it would have to tell.
    #[error(transparent)]
    Audit(#[from] access_core::audit::AuditError),
    /// A recording can't be stored or read.
    #[error("the recording store failed: {0}")]
    Recordings(String),
    /// A file or folder can't be used.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The service can't start like this.
    #[error("{0}")]
    Setup(String),
    /// Something stored can't be read.
    #[error("the stored {what} cannot be read: {why}")]
    Stored {
        /// What.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Anything that should not happen.
    #[error("{0}")]
    Internal(String),
}

/// The result of most functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>, why: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), why: why.to_string() }
    }

    pub(crate) fn stored(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Stored { what: what.into(), why: why.to_string() }
    }

    /// The gRPC code, for what is the caller's fault.
    fn code(&self) -> Option<Code> {
        match self {
            Self::Invalid(_) => Some(Code::InvalidArgument),
            Self::Unauthenticated(_) => Some(Code::Unauthenticated),
            Self::Denied(_) => Some(Code::PermissionDenied),
            Self::NotFound(_) => Some(Code::NotFound),
            Self::AlreadyExists(_) => Some(Code::AlreadyExists),
            Self::Conflict(_) => Some(Code::Aborted),
            Self::Precondition(_) => Some(Code::FailedPrecondition),
            Self::Limited(_) => Some(Code::ResourceExhausted),
            Self::Deadline(_) => Some(Code::DeadlineExceeded),
            Self::Storage(
                access_backend::Error::TooLarge { .. } | access_backend::Error::Invalid { .. },
            ) => Some(Code::InvalidArgument),
            Self::Authority(err) if is_request(err) => Some(Code::InvalidArgument),
            Self::Storage(_)
            | Self::Authority(_)
            | Self::Audit(_)
            | Self::Recordings(_)
            | Self::File { .. }
            | Self::Setup(_)
            | Self::Stored { .. }
            | Self::Internal(_) => None,
        }
    }
}

/// Whether a certificate was refused for what was asked for.
fn is_request(err: &access_ca::Error) -> bool {
    use access_ca::Error as Ca;
    matches!(
        err,
        Ca::SshKey(_)
            | Ca::TlsKey(_)
            | Ca::NoKey
            | Ca::NoPrincipals(_)
            | Ca::NoNames
            | Ca::Name { .. }
            | Ca::Account { .. }
            | Ca::Identity(_)
            | Ca::Id(_)
    )
}

impl From<DocumentError> for Error {
    fn from(err: DocumentError) -> Self {
        Self::Invalid(err.to_string())
    }
}

impl From<IdError> for Error {
    fn from(err: IdError) -> Self {
        Self::Invalid(err.to_string())
    }
}

impl From<Error> for Status {
    fn from(err: Error) -> Self {
        match err.code() {
            Some(code) => Self::new(code, err.to_string()),
            None => {
                tracing::error!(error = %err, "a call failed");
                let (code, message) = match err {
                    Error::Storage(_) => {
                        (Code::Unavailable, "the auth service cannot use its store: try again")
                    }
                    Error::Audit(_) => {
                        (Code::Unavailable, "the audit log cannot be written: try again")
                    }
                    _ => (Code::Internal, "something failed in the auth service: see its log"),
                };
                Self::new(code, message)
            }
        }
    }
}
