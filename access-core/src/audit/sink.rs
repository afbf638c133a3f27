//! Where events go.

use std::sync::Arc;

use async_trait::async_trait;

use super::events::Event;

/// When an accepted event has to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Written before `accept` returns, synced within 100 ms.
    Soon,
    /// Synced before `accept` returns: for what must not be undone by a power cut, such as the
    /// permit of a session before its target is dialled.
    Synced,
}

/// Why an event was not accepted. Whoever wanted to do what the event tells must not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The place where events wait for delivery is full.
    #[error("the audit spool is full: free disk space, or bring the auth service back")]
    Full,
    /// The event is larger than any can be.
    #[error("the audit event {name} has {size} bytes, more than the limit of {max}")]
    TooLarge {
        /// The event's name.
        name: String,
        /// Its size in bytes.
        size: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The sink has been closed.
    #[error("the audit log is closed")]
    Closed,
    /// The sink can't write.
    #[error("the audit log can't be written: {0}")]
    Unavailable(String),
}

/// Takes events, and keeps them.
///
/// A sink stamps what it accepts (see [`Stamper`](super::Stamper)): writer, number, uid and time
/// are its own. *Accepted* means that the event is in the spool, in order, before `accept`
/// returns, and so before the first byte of what it tells passes to anybody; it survives the
/// process. An event that [is a stranger's](Event::is_by_stranger) may be overwritten by later
/// ones of strangers, and is counted then (`audit.dropped`).
///
/// Cancelling the future leaves an event accepted or not, never half.
///
/// ```
/// use access_core::audit::{AuditError, AuditSink, Durability, Event};
///
/// #[derive(Debug)]
/// struct Console;
///
/// #[async_trait::async_trait]
/// impl AuditSink for Console {
///     async fn accept(&self, event: Event, _: Durability) -> Result<(), AuditError> {
///         println!("{} {}", event.code(), event.name());
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait AuditSink: Send + Sync + std::fmt::Debug {
    /// Accepts an event.
    ///
    /// # Errors
    /// [`AuditError`] when the event is not kept.
    async fn accept(&self, event: Event, durability: Durability) -> Result<(), AuditError>;

    /// Accepts several events, in order: a sink that can keep them in one go does so.
    ///
    /// # Errors
    /// [`AuditError`] when not all of them are kept; those before the one that failed may be.
    async fn accept_all(
        &self,
        events: Vec<Event>,
        durability: Durability,
    ) -> Result<(), AuditError> {
        for event in events {
            self.accept(event, durability).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl<S: AuditSink + ?Sized> AuditSink for Arc<S> {
    async fn accept(&self, event: Event, durability: Durability) -> Result<(), AuditError> {
        (**self).accept(event, durability).await
    }

    async fn accept_all(
        &self,
        events: Vec<Event>,
        durability: Durability,
    ) -> Result<(), AuditError> {
        (**self).accept_all(events, durability).await
    }
}
