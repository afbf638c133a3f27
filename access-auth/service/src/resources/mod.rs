//! Documents of every kind: one table of kinds, and reading, writing and watching over it.

mod dynamic;
mod enforcers;
mod events;
mod kinds;
mod page;
mod prepare;
mod read;
mod recent;
mod view;
mod watch;
mod write;

pub(crate) use kinds::KindEntry;
pub(crate) use recent::Recent;
pub(crate) use watch::Events;
pub(crate) use write::Mode;
