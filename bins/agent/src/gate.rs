//! The gate of everything that this agent serves.

use std::sync::Arc;

use access_agent::Host;
use access_core::gate::{Gate, GateOptions};
use access_daemon::Config;

/// A gate over the cluster's policy. There is one for all protocols, so that limits on a user's
/// connections count them all.
pub(crate) fn gate(config: &Config, host: &Host) -> Arc<Gate> {
    let mut options = GateOptions::default();
    if let Some(span) = config.access.max_staleness {
        options.max_staleness = span.0;
    }
    Arc::new(Gate::new(host.policy(), host.audit(), host.membership().clock(), options))
}
