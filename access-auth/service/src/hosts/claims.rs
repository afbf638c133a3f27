//! What a host claims: read, and checked for what no host may ever claim.

use std::collections::BTreeSet;

use access_ca::SanName;
use access_client::proto;
use access_client::types::{MAX_RESOURCES, ResourceMatcher};
use access_core::identity::Service;
use access_core::{ClusterName, HostId, ResourceKind, ResourceName, ResourceRef};

use super::Claims;
use crate::error::{Error, Result};
use crate::secrets;

/// The most names that a proxy is known by.
const MAX_NAMES: usize = 64;

/// Labels that mean something of their own below the cluster's name.
const RESERVED: [&str; 10] =
    ["auth", "proxy", "node", "db", "kube", "desktop", "app", "agent", "user", "localhost"];

/// What a token can be made for: not Auth, whose replicas are the cluster, and no bots, which are
/// users.
pub(crate) const JOINING: [Service; 6] = [
    Service::Node,
    Service::Db,
    Service::App,
    Service::Kube,
    Service::WindowsDesktop,
    Service::Proxy,
];

impl Claims {
    /// Reads claims. `id` is the host's, which its resources may not pretend to be another's.
    pub(crate) fn read(
        claims: Option<proto::HostClaims>,
        cluster: &ClusterName,
        id: &HostId,
    ) -> Result<Self> {
        let proto::HostClaims { nodename, services, resources, public_names, databases } =
            claims.unwrap_or_default();
        if resources.len() > MAX_RESOURCES || public_names.len() > MAX_NAMES || services.len() > 16
        {
            return Err(Error::Invalid(format!(
                "a host may claim {MAX_RESOURCES} resources and {MAX_NAMES} names at most"
            )));
        }
        let services = read_services(&services)?;
        if services.is_empty() {
            return Err(Error::Invalid("the host asks for no service: name at least one".into()));
        }
        let mut claimed = Vec::new();
        for text in &resources {
            let resource: ResourceRef =
                text.parse().map_err(|err| Error::Invalid(format!("{text:.80}: {err}")))?;
            if !claimed.contains(&resource) {
                claimed.push(resource);
            }
        }
        let serves_nodes = claimed.iter().any(|resource| resource.kind == ResourceKind::Node);
        if services.contains(&Service::Node) && !serves_nodes && !nodename.is_empty() {
            claimed.push(ResourceRef::node(ResourceName::new(&nodename)?));
        }
        for resource in &claimed {
            check_resource(resource, &services, cluster, id)?;
        }
        if !public_names.is_empty() && !services.contains(&Service::Proxy) {
            return Err(Error::Denied("only proxies are known by public names".into()));
        }
        let public_names = public_names
            .iter()
            .map(|name| {
                let name: SanName = name.parse()?;
                check_proxy_name(&name)?;
                check_public_name(&name, cluster)?;
                Ok(name)
            })
            .collect::<Result<_>>()?;
        let databases = read_matchers(&databases)?;
        if !databases.is_empty() && !services.contains(&Service::Db) {
            let why = "databases are served only by a host with the service db";
            return Err(Error::Denied(why.into()));
        }
        Ok(Self { services, resources: claimed, databases, public_names })
    }
}

/// Reads the names of services that can be joined for.
pub(crate) fn read_services(names: &[String]) -> Result<BTreeSet<Service>> {
    names
        .iter()
        .map(|name| {
            JOINING.into_iter().find(|service| service.as_str() == name.as_str()).ok_or_else(|| {
                let valid = JOINING.map(Service::as_str);
                Error::Invalid(access_core::document::unknown("type", name, &valid))
            })
        })
        .collect()
}

fn read_matchers(texts: &[String]) -> Result<Vec<ResourceMatcher>> {
    if texts.len() > ResourceMatcher::MOST {
        let most = ResourceMatcher::MOST;
        return Err(Error::Invalid(format!("databases: {most} matchers of labels at most")));
    }
    let mut matchers = Vec::new();
    for text in texts {
        let matcher = ResourceMatcher::from_json(text)
            .map_err(|err| Error::Invalid(format!("databases: {err}")))?;
        if !matchers.contains(&matcher) {
            matchers.push(matcher);
        }
    }
    Ok(matchers)
}

/// The service that serves a kind of resource.
const fn served_by(kind: ResourceKind) -> Service {
    match kind {
        ResourceKind::Node => Service::Node,
        ResourceKind::Database => Service::Db,
        ResourceKind::App => Service::App,
        ResourceKind::KubernetesCluster => Service::Kube,
        ResourceKind::Desktop => Service::WindowsDesktop,
    }
}

fn check_resource(
    resource: &ResourceRef,
    services: &BTreeSet<Service>,
    cluster: &ClusterName,
    id: &HostId,
) -> Result<()> {
    let service = served_by(resource.kind);
    if !services.contains(&service) {
        return Err(Error::Denied(format!(
            "{resource} can be claimed only by a host with the service {service}"
        )));
    }
    check_name(resource, cluster, Some(id))
}

/// Fails for names that no resource may have. `id` is the host's whose own it is to be.
pub(crate) fn check_name(
    resource: &ResourceRef,
    cluster: &ClusterName,
    id: Option<&HostId>,
) -> Result<()> {
    let name = resource.name.as_str().to_lowercase();
    // A node's name is a principal of its SSH certificate as it stands: it must be none that
    // clients know somebody else by.
    let below = name == cluster.as_str() || name.ends_with(&format!(".{cluster}"));
    if RESERVED.contains(&name.as_str()) || below {
        return Err(Error::Denied(format!("{resource} is a reserved name: choose another")));
    }
    if is_uuid(&name) && id.is_none_or(|id| name != id.as_str()) {
        return Err(Error::Denied(format!("{resource} looks like the id of another host")));
    }
    Ok(())
}

/// Fails for names that no proxy is reached by: whoever has a proxy's key could answer to more than
/// the proxy with them.
fn check_proxy_name(name: &SanName) -> Result<()> {
    let Some(dns) = name.dns() else { return Ok(()) };
    if dns.starts_with("*.") {
        return Err(Error::Denied(format!(
            "{name} is a wildcard: name each of the proxy's public names"
        )));
    }
    // Machines and nodes are known by such names, and no client on the Internet is.
    if !dns.contains('.') && dns != "localhost" {
        return Err(Error::Denied(format!(
            "{name} has no domain: a proxy's public name is a full one, such as proxy.example.com"
        )));
    }
    Ok(())
}

/// Fails for names that only Auth, or the agents of resources, may answer to.
pub(crate) fn check_public_name(name: &SanName, cluster: &ClusterName) -> Result<()> {
    let Some(dns) = name.dns() else { return Ok(()) };
    let reserved = |why: &str| Err(Error::Denied(format!("{name} {why}")));
    // Of other clusters too: a client that was told a wrong cluster's name, and pins this one's
    // authority, would take whoever has it for Auth.
    if dns.split('.').next() == Some("auth") {
        return reserved("is a name of an Auth Service: choose one that does not begin with auth");
    }
    let Some(rest) = dns.strip_suffix(cluster.as_str()).and_then(|rest| rest.strip_suffix('.'))
    else {
        // A wildcard over the cluster's own name, seen from above: *.com for example.com.
        return match dns.strip_prefix("*.") {
            Some(parent) if cluster.as_str().split_once('.').is_some_and(|(_, p)| p == parent) => {
                reserved("covers the cluster's own name")
            }
            _ => Ok(()),
        };
    };
    let labels: Vec<&str> = rest.split('.').collect();
    match labels.as_slice() {
        // *.CLUSTER covers auth.CLUSTER.
        ["*"] => reserved("covers the names of the cluster's own services"),
        [.., last] if RESERVED.contains(last) && !matches!(labels.as_slice(), ["proxy"]) => {
            reserved("is reserved")
        }
        _ => Ok(()),
    }
}

/// The id that a joining host has drawn, or one drawn for it. Ids are names in certificates, and
/// what calls, locks and events are told apart by: a chosen one could be a user's or a node's name.
pub(super) fn read_id(text: &str) -> Result<HostId> {
    match text {
        "" => Ok(HostId::from_random(secrets::random()?)),
        id if is_uuid(id) && !id.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Ok(HostId::new(id)?)
        }
        id => Err(Error::Invalid(format!(
            "the host id {id:.80} is no UUID in lower case: let the host draw its id, or send none"
        ))),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(services: &[&str], resources: &[&str], names: &[&str]) -> Result<Claims> {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let claims = proto::HostClaims {
            nodename: String::new(),
            services: texts(services),
            resources: texts(resources),
            public_names: texts(names),
            databases: Vec::new(),
        };
        let cluster = ClusterName::new("example.com").unwrap();
        Claims::read(Some(claims), &cluster, &HostId::new("h-1").unwrap())
    }

    #[test]
    fn reserved_names_are_nobodys() {
        for name in [
            "node/auth",
            "node/Proxy",
            "node/web-1.node.example.com",
            "node/example.com",
            "node/6f1a2b3c-0000-4000-8000-0123456789ab",
        ] {
            assert!(matches!(read(&["node"], &[name], &[]), Err(Error::Denied(_))), "{name}");
        }
        for name in ["node/web-1", "node/Web 1", "node/proxy-2"] {
            read(&["node"], &[name], &[]).unwrap();
        }
        for name in
            ["auth.example.com", "*.example.com", "web-1.node.example.com", "*.db.example.com"]
        {
            let refused = read(&["proxy"], &[], &[name]);
            assert!(matches!(refused, Err(Error::Denied(_))), "{name}");
        }
        for name in ["example.com", "proxy.example.com", "gw.example.com", "203.0.113.7", "x.org"] {
            read(&["proxy"], &[], &[name]).unwrap();
        }
    }

    #[test]
    fn a_proxy_is_known_by_full_names_that_are_not_auths() {
        for name in [
            "*.apps.example.org",
            "auth.evil.test",
            "AUTH.evil.test",
            "auth",
            "web-1",
            "localhost.",
        ] {
            match read(&["proxy"], &[], &[name]) {
                Err(Error::Denied(why)) => {
                    let named = why.contains(&name.to_lowercase());
                    assert!(named, "{name}: {why}");
                }
                Err(Error::Authority(_)) if name == "localhost." => {}
                other => panic!("{name}: {:?}", other.map(drop)),
            }
        }
        for name in ["localhost", "::1", "proxy.auth.example.org", "authority.example.org"] {
            read(&["proxy"], &[], &[name]).unwrap();
        }
    }

    #[test]
    fn a_wildcard_above_the_cluster_covers_it() {
        let cluster = ClusterName::new("access.example.com").unwrap();
        let check = |name: &str| check_public_name(&name.parse().unwrap(), &cluster);
        assert!(check("*.example.com").is_err());
        check("*.apps.example.com").unwrap();
    }

    #[test]
    fn resources_are_of_the_hosts_services() {
        assert!(matches!(read(&["node"], &["db/roach"], &[]), Err(Error::Denied(_))));
        read(&["node", "db"], &["db/roach"], &[]).unwrap();
        assert!(matches!(read(&["node"], &[], &["x.org"]), Err(Error::Denied(_))));
        assert!(matches!(read(&[], &[], &[]), Err(Error::Invalid(_))));
        let message = match read(&["nod"], &[], &[]) {
            Err(err) => err.to_string(),
            Ok(_) => panic!("nod is no service"),
        };
        assert!(message.contains("did you mean \"node\""), "{message}");
        assert!(matches!(read(&["auth"], &[], &[]), Err(Error::Invalid(_))));
    }
}
