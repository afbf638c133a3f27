//! What a host claims: read, and checked for what no host may ever claim.

use std::collections::BTreeSet;

use access_ca::SanName;
use access_client::proto;
use access_core::identity::Service;
use access_core::{ClusterName, HostId, ResourceKind, ResourceName, ResourceRef};

use super::Claims;
use crate::error::{Error, Result};

/// The most resources that one host serves.
const MAX_RESOURCES: usize = 200;
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
        let proto::HostClaims { nodename, services, resources, public_names } =
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
                check_public_name(&name, cluster)?;
                Ok(name)
            })
            .collect::<Result<_>>()?;
        Ok(Self { services, resources: claimed, public_names })
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
    let name = resource.name.as_str().to_lowercase();
    // A node's name is a principal of its SSH certificate as it stands: it must be none that
    // clients know somebody else by.
    let below = name == cluster.as_str() || name.ends_with(&format!(".{cluster}"));
    if RESERVED.contains(&name.as_str()) || below {
        return Err(Error::Denied(format!("{resource} is a reserved name: choose another")));
    }
    if is_uuid(&name) && name != id.as_str() {
        return Err(Error::Denied(format!("{resource} looks like the id of another host")));
    }
    Ok(())
}

/// Fails for names that only Auth, or the agents of resources, may answer to.
pub(crate) fn check_public_name(name: &SanName, cluster: &ClusterName) -> Result<()> {
    let Some(dns) = name.dns() else { return Ok(()) };
    let reserved = |why: &str| Err(Error::Denied(format!("{name} {why}")));
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
