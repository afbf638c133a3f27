//! What must hold for any bytes whatever; shared by fuzz targets and tests.
//!
//! Each function is one fuzz target of the same name and panics when its promise is broken. That
//! each ends in time and in memory is the fuzzer's to see: the core reads no clock.

mod audit_event;
mod certificate;
mod identity;
mod names;
mod pattern;
mod role;

pub use audit_event::audit_event;
pub use certificate::certificate;
pub use identity::identity;
pub use names::names;
pub use pattern::pattern;
pub use role::role;

pub use crate::recording::fuzz_oracle as recording;
