//! The one gate that no protocol can skip.
//!
//! ```text
//!  VerifiedIdentity ─┐
//!  Action ───────────┤   fresh policy?   decide   record     ┌─► Permit ─► Reach::dial / spawn
//!  Target ───────────┼─►  no: denied  ─► (pure) ─► (synced) ─┤
//!  Context ──────────┘                                       └─► Denied
//! ```
//!
//! [`Gate::authorize`] is the only maker of a [`Permit`]. [`Reach`](crate::reach::Reach) takes the
//! target out of the permit, never beside it, so that asking for one thing and dialling another
//! does not compile. A permit lives: [`Permit::ended`] completes when the policy no longer allows
//! what it permits, and everything that was reached with it is [`Guarded`] and dies with it.

mod authorize;
mod guard;
mod permit;
mod served;
mod source;

pub use authorize::{Denied, Gate, GateOptions, LEAST_STALENESS, SIGN_OF_LIFE};
pub use guard::Guarded;
pub use permit::{EndReason, Permit};
pub use served::{ServedPolicy, Standing};
pub use source::{PolicySource, RolePolicy};

#[cfg(test)]
mod tests;
