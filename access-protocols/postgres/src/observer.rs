//! What sessions find of databases, for whoever shows how these are.

use access_core::ResourceRef;

/// Is told what sessions find of a database on their way to it, which nobody learns who only
/// [looks](crate::probe) whether it answers. Called on the path of a session: it does not block.
pub trait DatabaseObserver: Send + Sync + 'static {
    /// A database let a session in.
    fn lets_in(&self, database: &ResourceRef);

    /// A database came to nothing for a reason that is not the session's: its TLS, or that it takes
    /// no certificate of the cluster. The text is for administrators.
    fn turns_away(&self, database: &ResourceRef, why: &str);
}
