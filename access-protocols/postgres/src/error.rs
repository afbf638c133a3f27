//! What can be wrong with a server before it serves anybody.

/// Why a server or what it reaches cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The builder was not given all that a server needs.
    #[error("a PostgreSQL server needs {0}: give it to the builder")]
    Missing(&'static str),
    /// No roots are given, and the mode verifies certificates.
    #[error("TLS to the database is to be verified, but no root certificate is given")]
    NoRoots,
    /// A root certificate cannot be used.
    #[error("a root certificate for the database cannot be used: {0}")]
    Root(rustls::Error),
    /// A file of root certificates cannot be used.
    #[error("{}: {why}", path.display())]
    RootFile {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The name that the database's certificate is held against is none.
    #[error("{0:?} is no name that a certificate could be for")]
    ServerName(String),
    /// A database does not answer as it should; see [`probe`](crate::probe()).
    #[error("{0}")]
    Unhealthy(String),
}
