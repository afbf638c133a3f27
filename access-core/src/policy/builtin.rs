//! What the cluster's own services may do. They have no roles: this is fixed, so that a role
//! document that went wrong cannot stop the cluster from working, and none can widen what a
//! stolen agent may do.

use std::collections::BTreeSet;

use super::action::{ApiKind, Verb};
use super::request::Request;
use crate::identity::Service;
use crate::ids::HostId;

/// How far a service's right reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Nowhere.
    None,
    /// To documents of the host itself.
    Own,
    /// To all.
    All,
}

/// Whether a host may do something: one of its services must.
pub(super) fn may(id: &HostId, services: &BTreeSet<Service>, request: Request<'_>) -> bool {
    match request {
        Request::Api { kind, verb, owner } => match scope(services, kind, verb) {
            Scope::All => true,
            Scope::Own => owner == Some(id),
            Scope::None => false,
        },
        // A host visits no resource: users do, with their own certificates.
        Request::See(_)
        | Request::Ssh { .. }
        | Request::Database { .. }
        | Request::App(_)
        | Request::Kubernetes { .. }
        | Request::Desktop { .. } => false,
    }
}

/// How far a right of these services reaches.
pub(super) fn scope(services: &BTreeSet<Service>, kind: ApiKind, verb: Verb) -> Scope {
    services.iter().map(|service| service_scope(*service, kind, verb)).max().unwrap_or(Scope::None)
}

/// The table. Every service and kind is named: a new one does not compile until it is decided.
fn service_scope(service: Service, kind: ApiKind, verb: Verb) -> Scope {
    let serves = match service {
        Service::Auth => return Scope::All,
        // Bots have roles, and certificates of the user authority.
        Service::Bot => return Scope::None,
        Service::Proxy => ApiKind::Server,
        Service::Node => ApiKind::Node,
        Service::Db => ApiKind::Db,
        Service::App => ApiKind::App,
        Service::Kube => ApiKind::Kube,
        Service::WindowsDesktop => ApiKind::Desktop,
    };
    let proxy = service == Service::Proxy;
    match kind {
        // What enforcing takes, and which proxies there are to hold tunnels to.
        ApiKind::Role
        | ApiKind::User
        | ApiKind::Lock
        | ApiKind::Authority
        | ApiKind::ClusterConfig => all_if(reads(verb)),
        ApiKind::Server if reads(verb) => Scope::All,
        ApiKind::Node
        | ApiKind::Db
        | ApiKind::App
        | ApiKind::Kube
        | ApiKind::Desktop
        | ApiKind::Server => {
            if proxy && reads(verb) {
                Scope::All
            } else if kind == serves && verb != Verb::Use {
                Scope::Own
            } else {
                Scope::None
            }
        }
        ApiKind::Event => all_if(verb == Verb::Use),
        ApiKind::Session => all_if(verb == Verb::Create),
        ApiKind::Token | ApiKind::Invite | ApiKind::Certificate | ApiKind::AccessRequest => {
            Scope::None
        }
    }
}

fn all_if(condition: bool) -> Scope {
    if condition { Scope::All } else { Scope::None }
}

fn reads(verb: Verb) -> bool {
    matches!(verb, Verb::Read | Verb::List)
}
