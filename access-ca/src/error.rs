//! What can go wrong while authorities are made, opened and used.

use std::path::PathBuf;

use access_core::identity::{AuthorityKind, VerifyError};
use access_core::time::Timestamp;
use access_core::{ClusterName, IdError};

use crate::keys::KeyPurpose;

/// Every error of this crate.
///
/// The first group is the fault of whoever asked for a certificate, the second a misuse of this
/// crate, the third a trouble of the key store or of what was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // What was asked for cannot be certified.
    /// The SSH public key is none that is certified.
    #[error("the SSH public key cannot be certified: {0}")]
    SshKey(String),
    /// The TLS public key is none that is certified.
    #[error("the TLS public key cannot be certified: {0}")]
    TlsKey(String),
    /// Neither an SSH nor a TLS key was given.
    #[error("nothing to certify: give an SSH or a TLS public key")]
    NoKey,
    /// An SSH certificate without principals would be valid for everybody, so that none is made.
    #[error(
        "an SSH certificate must name at least one {0}: allow one, or ask for a TLS certificate \
         only"
    )]
    NoPrincipals(&'static str),
    /// A TLS server certificate without names would be valid for none.
    #[error("a host's certificate must have at least one DNS name or IP address")]
    NoNames,
    /// An account that cannot stand in a certificate.
    #[error("{account:?} cannot be a database account in a certificate: {why}")]
    Account {
        /// What was given, shortened.
        account: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A host name or principal that must not stand in a certificate.
    #[error("{name:?} cannot be a name in a certificate: {why}")]
    Name {
        /// What was given, shortened.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The identity cannot be written into a certificate.
    #[error("the identity cannot be put into a certificate: {0}")]
    Identity(#[from] VerifyError),

    // Misuse.
    /// A host where a user is asked for, or the other way round.
    #[error("the draft is for a {wanted}, but its identity is none")]
    WrongSubject {
        /// What the draft is for.
        wanted: &'static str,
    },
    /// The authority of the other kind.
    #[error("this certificate is signed by the {wanted} authority, not by the {given} authority")]
    WrongAuthority {
        /// The kind that signs such certificates.
        wanted: AuthorityKind,
        /// The kind that was given.
        given: AuthorityKind,
    },
    /// An SSH certificate by an authority that signs none.
    #[error("the {0} authority signs no SSH certificates")]
    NoSshHalf(AuthorityKind),
    /// The authority of another cluster.
    #[error("the identity is of cluster {identity}, the authority of cluster {authority}")]
    OtherCluster {
        /// The authority's cluster.
        authority: ClusterName,
        /// The identity's cluster.
        identity: ClusterName,
    },
    /// The policy allows no certificate.
    #[error("the issuing policy allows no certificate: {0}")]
    Policy(&'static str),
    /// The certificate would hold longer than the authority's own root.
    #[error(
        "the certificate would outlive its authority, which ends at {0}: rotate the authority or \
         ask for a shorter time"
    )]
    OutlivesAuthority(Timestamp),
    /// An algorithm that cannot be used there.
    #[error("{0}")]
    Algorithm(&'static str),
    /// A text that is no id.
    #[error(transparent)]
    Id(#[from] IdError),

    // The key store, and what was stored.
    /// The operating system gave no random bytes.
    #[error("the system's random number generator failed")]
    Randomness,
    /// A key did not sign.
    #[error("signing failed: {0}")]
    Signing(String),
    /// A text that is no sealing key.
    #[error(
        "the sealing key cannot be used: {0}; it is 32 random bytes in base64 or hexadecimal, \
         such as `openssl rand -base64 32` prints"
    )]
    SealingKey(&'static str),
    /// A file that a sealing key cannot be read from or written to.
    #[error("sealing key file {}: {why}", path.display())]
    SealingKeyFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// What is sealed was sealed by another key.
    #[error("{what} is sealed by another sealing key: give the one that was used when it was made")]
    OtherSealingKey {
        /// What could not be opened.
        what: String,
    },
    /// What is sealed cannot be opened.
    #[error(
        "{what} cannot be opened: it was changed or truncated, or it was sealed for another \
         purpose"
    )]
    Sealed {
        /// What could not be opened.
        what: String,
    },
    /// What is sealed has a form that this program does not know.
    #[error("{what} is sealed in version {version}, which this program does not know")]
    SealedVersion {
        /// What could not be opened.
        what: String,
        /// The version found.
        version: u8,
    },
    /// A key for one purpose where one for another is asked for.
    #[error("key for {found:?} where the key for {wanted:?} is needed")]
    Purpose {
        /// What the key is asked for.
        wanted: KeyPurpose,
        /// What it was made for.
        found: KeyPurpose,
    },
    /// A stored key or authority that contradicts itself.
    #[error("the stored authority cannot be used: {0}")]
    Stored(String),
}

/// The result of most functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A text from outside, short enough for an error message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
