//! What is written down: audit events, defined once each, and the sinks that take them.
//!
//! An event's kind is one definition in [`events`]: its name, its codes, its typed fields and
//! their documentation. Everything else is derived from it: the JSON object, reading it back, and
//! the reference that [`kinds`] lists. Names and codes are those that security teams' tools
//! already parse (Teleport's public event reference); the few kinds of our own have codes that
//! start with `AC`.
//!
//! An [`Event`] is what happened. An [`Envelope`] is the event with when, where and in which
//! order; the [`AuditSink`] that accepts an event makes the envelope, with a [`Stamper`].
//!
//! ```
//! use access_core::audit::{AuditSink, Durability, MemorySink, events::UserLogin};
//! use access_core::audit::events::{Outcome, UserLoginCode};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let sink = MemorySink::new(100);
//! let event = UserLogin {
//!     code: UserLoginCode::LocalFailed,
//!     user: "alice".into(),
//!     method: "local".into(),
//!     addr_remote: Some("203.0.113.7:40112".into()),
//!     outcome: Outcome::failed("wrong password"),
//! };
//! sink.accept(event.into(), Durability::Soon).await?;
//!
//! let json = serde_json::to_value(&sink.envelopes()[0]).unwrap();
//! assert_eq!(json["event"], "user.login");
//! assert_eq!(json["code"], "T1000W");
//! assert_eq!(json["error"], "wrong password");
//! # Ok::<(), access_core::audit::AuditError>(())
//! # }).unwrap();
//! ```

#[macro_use]
mod macros;

mod envelope;
pub mod events;
mod field;
mod kind;
mod memory;
mod outline;
mod parameters;
mod sink;
mod stamp;
mod text;

pub use envelope::{Envelope, EnvelopeError};
pub use events::{Event, UnknownEvent, kinds};
pub use field::{Field, FieldError, FieldInfo, Fields, Object, Shared};
pub use kind::{Code, EventKind, Kind, Severity};
pub use memory::MemorySink;
pub use outline::Outline;
pub use parameters::{Parameter, Parameters};
pub use sink::{AuditError, AuditSink, Durability};
pub use stamp::{Stamper, uid_of};
pub use text::{List, Text};

/// The largest event that a sink has to take, in bytes of its JSON.
///
/// Every field is bounded by its type, but some kinds have many; a sink refuses what is larger
/// with [`AuditError::TooLarge`].
pub const MAX_EVENT_BYTES: usize = 256 * 1024;
