//! What engines in other crates share with those of this one.

pub use crate::blocks::{
    Block, MAX_EVENTS as MAX_BLOCK_EVENTS, PageOfEvents, listed, pack, packed,
};
pub use crate::hub::{Change, Hub, Subscription};
pub use crate::page::PageBuilder;
