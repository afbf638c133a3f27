//! What nobody serves, names and first words: who asks for it, in the log and in the audit trail.
//!
//! A client that asks by server name for what is not there can be told so by an alert of TLS alone:
//! the proxy has no certificate for the name with which it could say more. Whoever looks for the
//! reason finds it here.

use std::net::SocketAddr;
use std::sync::Arc;

use access_core::Timestamp;
use access_core::audit::events::{Auth, Outcome};
use access_core::audit::{AuditSink, Durability, Text};
use access_core::resource::{DnsResource, ResourceKind};
use access_core::source::Rate;
use metrics::counter;
use tracing::{debug, info, warn};

/// Writes down who asks for what nobody serves. Names and words of one source count together.
#[derive(Debug)]
pub(crate) struct Unserved {
    audit: Option<Arc<dyn AuditSink>>,
    rate: Rate,
}

impl Unserved {
    pub(crate) fn new(audit: Option<Arc<dyn AuditSink>>) -> Self {
        Self { audit, rate: Rate::of_strangers_events() }
    }

    /// A client asked for this. It proved nothing, and may have made the name up.
    pub(crate) async fn note(&self, target: &DnsResource, client: SocketAddr, now: Timestamp) {
        let DnsResource { kind, label } = target;
        counter!("access_proxy_unserved_total", "kind" => kind.as_str()).increment(1);
        if !self.rate.take(client.ip(), now) {
            debug!(%client, "nobody serves {kind}/{label}");
            return;
        }
        info!(%client, "nobody serves {kind}/{label}, or its agent is not connected");
        let event = Auth {
            outcome: Outcome::failed(format_args!(
                "there is no {kind}/{label}, or its agent is not connected to this proxy"
            )),
            user: "unknown".into(),
            login: None,
            addr_remote: Some(Text::of(client)),
            server_hostname: Some(label.as_str().into()),
            proto: Some(match kind {
                ResourceKind::Node => "ssh".into(),
                kind => kind.as_str().into(),
            }),
        };
        self.write(event).await;
    }

    /// What a client said in a protocol was refused for this reason.
    pub(crate) async fn note_refused(
        &self,
        protocol: &'static str,
        why: &str,
        client: SocketAddr,
        now: Timestamp,
    ) {
        self.note_words(Some(protocol), why, client, now).await;
    }

    /// A client's first words were of no protocol that is known here.
    pub(crate) async fn note_unknown(&self, client: SocketAddr, now: Timestamp) {
        self.note_words(
            None,
            "the first words are of no protocol that is served here",
            client,
            now,
        )
        .await;
    }

    async fn note_words(
        &self,
        proto: Option<&'static str>,
        why: &str,
        client: SocketAddr,
        now: Timestamp,
    ) {
        let protocol = proto.unwrap_or("unknown");
        counter!("access_proxy_malformed_total", "protocol" => protocol).increment(1);
        if !self.rate.take(client.ip(), now) {
            debug!(%client, protocol, "refused: {why}");
            return;
        }
        info!(%client, protocol, "refused: {why}");
        let event = Auth {
            outcome: Outcome::failed(why),
            user: "unknown".into(),
            login: None,
            addr_remote: Some(Text::of(client)),
            server_hostname: None,
            proto: proto.map(Into::into),
        };
        self.write(event).await;
    }

    async fn write(&self, event: Auth) {
        let Some(audit) = &self.audit else { return };
        if let Err(err) = audit.accept(event.into(), Durability::Soon).await {
            warn!(%err, "what nobody serves could not be written down");
        }
    }
}
