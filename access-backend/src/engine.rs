//! What engines in other crates share with those of this one.

pub use crate::hub::{Change, Hub, Subscription};
pub use crate::page::PageBuilder;
