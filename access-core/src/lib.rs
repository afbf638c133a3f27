//! The words and decisions of the access domain.
//!
//! Everything here is given its clock, its randomness and its I/O: this crate opens no socket or
//! file, reads no clock and spawns nothing. It defines who somebody is ([`identity`]), what may be
//! reached ([`resource`]), who may reach it ([`role`], [`policy`]), the one [`gate`] that every
//! protocol passes, what is written down about it ([`audit`], [`recording`]), and the small traits
//! that others plug into ([`gate::PolicySource`], [`audit::AuditSink`], [`recording::Recorder`],
//! [`protocol::Protocol`], [`reach::Reach`], [`time::Clock`]).
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod audit;
#[cfg(feature = "tls")]
pub mod credentials;
pub mod document;
pub mod gate;
pub mod identity;
pub mod ids;
pub mod labels;
#[doc(hidden)]
pub mod oracle;
pub mod policy;
mod prefixed;
pub mod protocol;
pub mod reach;
pub mod recording;
pub mod resource;
pub mod role;
mod scan;
pub mod source;
pub mod spread;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
pub mod wake;

pub use gate::{Gate, Permit};
pub use identity::{Identity, TrustStore, VerifiedIdentity};
pub use ids::*;
pub use prefixed::Prefixed;
pub use resource::{Resource, ResourceKind, ResourceRef};
pub use time::{Clock, Timestamp, Validity};
