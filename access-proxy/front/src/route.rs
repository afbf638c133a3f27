//! The route table: where a TLS connection goes. SNI decides before ALPN.

use access_core::ClusterName;
use access_core::resource::{DnsResource, ResourceKind, ResourceRef};
use access_core::tls::{ALPN_PEER, ALPN_TUNNEL};

/// Where a TLS connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To Auth, untouched.
    Auth,
    /// To the agent that serves it, untouched.
    Resource(DnsResource),
    /// An agent that opens its tunnel.
    Tunnel,
    /// Another proxy.
    Peer,
    /// Pages and the web API.
    Web,
}

/// What a rule looks at in the server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sni {
    /// `auth.CLUSTER`.
    Auth,
    /// `LABEL.KIND.CLUSTER`.
    Resource(ResourceKind),
    /// Any other name, or none.
    Other,
}

/// What a rule looks at in the offered protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alpn {
    /// Whatever is offered, or nothing.
    Any,
    /// This one is offered.
    Offers(&'static [u8]),
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub struct RouteRule {
    sni: Sni,
    alpn: Alpn,
    to: To,
}

#[derive(Clone, Copy, Debug)]
enum To {
    Auth,
    Resource,
    Tunnel,
    Peer,
    Web,
}

/// The table; the first line that fits counts, and the last fits always.
///
/// Web applications have public names of their own: they come out at the last line, and the web
/// side tells them by host name.
pub const ROUTES: &[RouteRule] = &[
    RouteRule { sni: Sni::Auth, alpn: Alpn::Any, to: To::Auth },
    RouteRule { sni: Sni::Resource(ResourceKind::Node), alpn: Alpn::Any, to: To::Resource },
    RouteRule { sni: Sni::Resource(ResourceKind::Database), alpn: Alpn::Any, to: To::Resource },
    RouteRule {
        sni: Sni::Resource(ResourceKind::KubernetesCluster),
        alpn: Alpn::Any,
        to: To::Resource,
    },
    RouteRule { sni: Sni::Resource(ResourceKind::Desktop), alpn: Alpn::Any, to: To::Resource },
    RouteRule { sni: Sni::Other, alpn: Alpn::Offers(ALPN_TUNNEL), to: To::Tunnel },
    RouteRule { sni: Sni::Other, alpn: Alpn::Offers(ALPN_PEER), to: To::Peer },
    RouteRule { sni: Sni::Other, alpn: Alpn::Any, to: To::Web },
];

/// Where a connection with this server name and these offered protocols goes.
pub fn route<'a>(
    cluster: &ClusterName,
    server_name: Option<&str>,
    offered: impl Iterator<Item = &'a [u8]> + Clone,
) -> Route {
    let name = server_name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let resource = name.as_deref().and_then(|name| ResourceRef::from_dns_name(name, cluster));
    let is_auth = name
        .as_deref()
        .and_then(|name| name.strip_prefix("auth."))
        .is_some_and(|rest| rest == cluster.as_str());
    let fits = |rule: &&RouteRule| {
        let sni = match rule.sni {
            Sni::Auth => is_auth,
            Sni::Resource(kind) => resource.as_ref().is_some_and(|found| found.kind == kind),
            Sni::Other => true,
        };
        let alpn = match rule.alpn {
            Alpn::Any => true,
            Alpn::Offers(protocol) => offered.clone().any(|offer| offer == protocol),
        };
        sni && alpn
    };
    match (ROUTES.iter().find(fits).map(|rule| rule.to), resource) {
        (Some(To::Auth), _) => Route::Auth,
        (Some(To::Resource), Some(resource)) => Route::Resource(resource),
        (Some(To::Tunnel), _) => Route::Tunnel,
        (Some(To::Peer), _) => Route::Peer,
        (Some(To::Web | To::Resource) | None, _) => Route::Web,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: Option<&str>, alpn: &[&[u8]]) -> Route {
        route(&ClusterName::new("example.com").unwrap(), name, alpn.iter().copied())
    }

    fn resource(kind: ResourceKind, label: &str) -> Route {
        Route::Resource(DnsResource { kind, label: label.into() })
    }

    #[test]
    fn the_table_routes_as_the_contract_says() {
        use ResourceKind::{Database, Desktop, KubernetesCluster, Node};
        let tunnel: &[&[u8]] = &[ALPN_TUNNEL];
        for (name, alpn, expected) in [
            (Some("auth.example.com"), &[][..], Route::Auth),
            (Some("AUTH.example.com."), &[b"h2".as_slice()][..], Route::Auth),
            (Some("auth.example.com"), tunnel, Route::Auth),
            (Some("web-1.node.example.com"), &[][..], resource(Node, "web-1")),
            (Some("web-1.node.example.com"), tunnel, resource(Node, "web-1")),
            (Some("roach.db.example.com"), &[][..], resource(Database, "roach")),
            (Some("k.kube.example.com"), &[][..], resource(KubernetesCluster, "k")),
            (Some("w.desktop.example.com"), &[][..], resource(Desktop, "w")),
            (Some("grafana.app.example.com"), &[][..], Route::Web),
            (Some("proxy.example.com"), tunnel, Route::Tunnel),
            (None, tunnel, Route::Tunnel),
            (Some("proxy.example.com"), &[ALPN_PEER][..], Route::Peer),
            (Some("example.com"), &[b"h2".as_slice(), b"http/1.1"][..], Route::Web),
            (Some("auth.example.org"), &[][..], Route::Web),
            (Some("x.auth.example.com"), &[][..], Route::Web),
            (None, &[][..], Route::Web),
        ] {
            assert_eq!(at(name, alpn), expected, "{name:?} {alpn:?}");
        }
    }
}
