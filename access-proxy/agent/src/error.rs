//! What keeps a host from joining, or an agent from running.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use access_client::ClientError;
use access_core::audit::AuditError;
use access_core::tls::TlsError;
use access_core::{ClusterName, Timestamp};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A file or folder of the data directory can't be used.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process has the data directory.
    #[error("{} is in use by another process: stop that, or choose another data directory", .0.display())]
    InUse(PathBuf),
    /// The host has never joined, and there is no token to join with.
    #[error(
        "this host has not joined a cluster yet: give it a join token \
         (`accessctl tokens add` makes one)"
    )]
    NoToken,
    /// There is no pin to know the cluster by.
    #[error(
        "joining needs the cluster's pin, so that nobody else can answer: give it the CA pin \
         that was printed with the join token"
    )]
    NoPin,
    /// Neither a proxy nor Auth is configured.
    #[error("no address of a proxy or of the auth service is configured")]
    NoAddress,
    /// The token was refused. The text is the service's.
    #[error("the join token was refused: {0}")]
    TokenRefused(String),
    /// The certificates expired before they could be renewed, and there is no token to join again.
    #[error("the certificates of this host expired at {0}: give it a new join token")]
    Expired(Timestamp),
    /// The data directory holds the state of another cluster than the one that is configured.
    #[error(
        "the data directory belongs to cluster {found}, not to {expected}: choose an empty one to \
         join another cluster"
    )]
    OtherCluster {
        /// The cluster that the data directory belongs to.
        found: ClusterName,
        /// The cluster that was asked for.
        expected: ClusterName,
    },
    /// The agent is put together wrongly.
    #[error("{0}")]
    Setup(String),
    /// What came of a call to Auth.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A TLS configuration can't be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The spool refuses.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl AgentError {
    pub(crate) fn file(path: &Path, why: impl Display) -> Self {
        Self::File { path: path.to_owned(), why: why.to_string() }
    }
}
