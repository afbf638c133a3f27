//! The gate of everything that this agent serves.

use std::sync::Arc;

use access_agent::Host;
use access_core::gate::{Gate, GateOptions, ServedPolicy, Standing};
use access_core::{Resource, ResourceKind};
use access_daemon::Config;
use access_postgres::Databases;

/// A gate over the cluster's policy. There is one for all protocols, so that limits on a user's
/// connections count them all.
pub(crate) fn gate(config: &Config, host: &Host, databases: Databases) -> Arc<Gate> {
    let mut options = GateOptions::default();
    if let Some(span) = config.access.max_staleness {
        options.max_staleness = span.0;
    }
    let policy = ServedPolicy::new(host.policy(), move |resource| standing(&databases, resource));
    Arc::new(Gate::new(Arc::new(policy), host.audit(), host.membership().clock(), options))
}

/// Databases come and go while the agent runs; a node is there for as long as its agent.
fn standing(databases: &Databases, resource: &Resource) -> Standing {
    if resource.id.kind != ResourceKind::Database {
        return Standing::Same;
    }
    match databases.get(&resource.id) {
        Some(served) if served.resource == *resource => Standing::Same,
        Some(served) => Standing::Changed(served.resource.clone()),
        None => Standing::Gone,
    }
}
