//! What can be wrong with a server before it serves anybody.

/// Why a server cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// The host key or its certificate cannot be used.
    #[error("the SSH host key cannot be used: {0}")]
    HostKey(&'static str),
    /// The builder was not given all that a server needs.
    #[error("an SSH server needs {0}: give it to the builder")]
    Missing(&'static str),
}
