//! The agent as a program: from a configuration to a running agent.

mod daemon;
mod ssh;

pub use daemon::AgentDaemon;
