//! The agent as a program: from a configuration to a running agent.

mod daemon;
mod databases;
mod doors;
mod dynamic;
mod gate;
mod health;
mod observed;
mod ssh;

pub use daemon::AgentDaemon;
