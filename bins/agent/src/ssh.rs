//! This host by SSH: the registration of one protocol.

use std::sync::Arc;

use access_agent::Host;
use access_client::types::{NodeDocument, NodeSpec};
use access_core::gate::Gate;
use access_core::{ResourceName, ResourceRef};
use access_daemon::config::{SshMode, SshSection};
use access_daemon::{Exit, ssh_host_keys};
use access_host::HostReach;
use access_ssh::SshServer;

/// The node that this host is.
pub(crate) fn node(nodename: &str) -> Result<ResourceRef, Exit> {
    let name = ResourceName::new(nodename)
        .map_err(|err| Exit::usage(format!("access.nodename: {err}")))?;
    Ok(ResourceRef::node(name))
}

/// What stands in the cluster about it.
pub(crate) fn document(host: &Host, section: &SshSection) -> NodeDocument {
    let membership = host.membership();
    let mut spec = NodeSpec::new(membership.host_id().clone());
    spec.hostname = membership.nodename().to_owned();
    spec.version = env!("CARGO_PKG_VERSION").to_owned();
    let mut document = NodeDocument::new(membership.nodename(), spec);
    document.metadata.labels = section.labels.clone();
    document
}

/// The SSH server, behind a gate over the cluster's policy.
pub(crate) fn server(
    host: &Host,
    gate: Arc<Gate>,
    section: &SshSection,
) -> Result<SshServer, Exit> {
    if section.mode == SshMode::Openssh {
        return Err(Exit::usage("ssh_service.mode: this version serves SSH itself only (local)"));
    }
    let reach = HostReach::builder().build().map_err(Exit::failed)?;
    let trust = host.membership().trust();
    let known = host.clone();
    SshServer::builder()
        .gate(gate)
        .reach(Arc::new(reach))
        .trust(Arc::new(move || trust.load()))
        .audit(host.audit())
        .recorder(host.recorder())
        .clock(host.membership().clock())
        .host_keys(ssh_host_keys(host.membership())?)
        .nodes(Arc::new(move |node| known.resource(node)))
        .build()
        .map_err(Exit::failed)
}
