//! From the name that a client wrote to the stream of that node.

use std::sync::Arc;
use std::time::Duration;

use access_core::gate::EndReason;
use access_core::ids::ResourceName;
use access_core::policy::{Action, Context, Target};
use access_core::resource::Labels;
use access_core::{ClusterName, HostId, Resource, ResourceRef, VerifiedIdentity};
use russh::ChannelOpenFailure;
use russh::server::ChannelOpenHandle;

use super::Parts;
use crate::channel::{Ends, Writer, refusal};
use crate::connection::{Connection, Ended};
use crate::pipe::{self, Counters};

/// How long a client has to take the message that says why all is over.
const TELLING: Duration = Duration::from_secs(2);

/// A channel to a node.
pub(super) struct Jump {
    pub(super) parts: Arc<Parts>,
    pub(super) connection: Arc<Connection>,
    pub(super) who: Arc<VerifiedIdentity>,
    pub(super) host: String,
    pub(super) writer: Writer,
    pub(super) ends: Ends,
    pub(super) reply: ChannelOpenHandle,
}

/// Leads on, if the node is there and the user may see it, and copies until it is over.
pub(super) async fn jump(jump: Jump) {
    let Jump { parts, connection, who, host, writer, ends, reply } = jump;
    let failed = ChannelOpenFailure::ConnectFailed.code();
    let cluster = (parts.checker.trust)().cluster().clone();
    let name = node_name(&host, &cluster);
    let found = name.and_then(|name| parts.directory.find(name));
    // What is not there is asked for all the same: it takes as long, and is written down.
    let node = match (&found, name.and_then(|name| ResourceName::new(name).ok())) {
        (Some(node), _) => node.clone(),
        (None, Some(name)) => match absent(name) {
            Some(node) => node,
            None => return drop(reply),
        },
        (None, None) => return reply.reject(refusal(failed, unknown(&host))).await,
    };
    let context = Context {
        client_addr: connection.client_addr.map(|addr| addr.ip().to_canonical()),
        trace_id: Some(connection.trace_id.clone()),
    };
    let permit = parts.gate.authorize(&who, Action::See, Target::Resource(node), context).await;
    let (Ok(permit), true) = (permit, found.is_some()) else {
        return reply.reject(refusal(failed, unknown(&host))).await;
    };
    let dialled = tokio::select! {
        dialled = parts.reach.dial(&permit) => dialled,
        _ = connection.over() => return,
    };
    let stream = match dialled {
        Ok(stream) => stream,
        Err(err) => return reply.reject(refusal(failed, format!("{host}: {err}"))).await,
    };
    reply.accept().await;
    let counters = Counters::default();
    let copied = tokio::select! {
        copied = pipe::copy(stream, &writer, &ends, &counters, || ()) => copied,
        _ = connection.over() => {
            told(&connection).await;
            Ok(())
        }
    };
    let withdrawn = copied.as_ref().err().and_then(end_reason);
    if let Some(reason) = withdrawn.filter(|_| connection.tasks.len() <= 1) {
        connection.withdraw(Ended { reason: "access withdrawn", text: reason.to_string() });
        told(&connection).await;
    }
    tracing::debug!(
        user = who.name(),
        node = host,
        tx = counters.tx(),
        rx = counters.rx(),
        ?copied,
        "a jump has ended"
    );
    let _ = writer.close().await;
}

/// Why the permit ended, if that is what broke the stream.
fn end_reason(err: &std::io::Error) -> Option<&EndReason> {
    err.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Waits until the client was told why all is over. The channel must not close before: a client
/// whose only channel is closed leaves, and shows its user nothing.
async fn told(connection: &Connection) {
    let _ = tokio::time::timeout(TELLING, connection.link.closed()).await;
}

/// The same for what is not there and for what this user may not see.
fn unknown(host: &str) -> String {
    let host: String = host.chars().filter(|c| !c.is_control()).take(255).collect();
    format!("{host}: no such node, or no access to it")
}

/// The node in `web-1` or `web-1.node.CLUSTER`.
fn node_name<'a>(host: &'a str, cluster: &ClusterName) -> Option<&'a str> {
    if host.is_empty() || host.len() > 255 {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let short = host.strip_suffix(cluster.as_str()).and_then(|rest| rest.strip_suffix(".node."));
    Some(short.unwrap_or(host))
}

/// A node that no agent has.
fn absent(name: ResourceName) -> Option<Resource> {
    let host = HostId::new("none").ok()?;
    Some(Resource::new(ResourceRef::node(name), Labels::new(), host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_shortly_or_in_full() {
        let cluster = ClusterName::new("example.com").unwrap();
        for (host, name) in [
            ("web-1", Some("web-1")),
            ("web-1.node.example.com", Some("web-1")),
            ("web-1.node.example.com.", Some("web-1")),
            ("web-1.node.example.org", Some("web-1.node.example.org")),
            ("db.example.com", Some("db.example.com")),
            ("", None),
        ] {
            assert_eq!(node_name(host, &cluster), name, "{host}");
        }
    }
}
