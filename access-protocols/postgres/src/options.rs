//! Limits and deadlines.

use std::time::Duration;

/// Limits and deadlines of database connections.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// How long a client may take until its StartupMessage is there. 10 seconds by default.
    pub startup_deadline: Duration,
    /// How long a target may take, all of its addresses together, until it is ready. 30 seconds
    /// by default.
    pub connect_deadline: Duration,
    /// How long one address may take, if there are others. 10 seconds by default.
    pub address_deadline: Duration,
    /// How long events may take to be accepted before the session ends. 10 seconds by default.
    pub audit_deadline: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            startup_deadline: Duration::from_secs(10),
            connect_deadline: Duration::from_secs(30),
            address_deadline: Duration::from_secs(10),
            audit_deadline: Duration::from_secs(10),
        }
    }
}
