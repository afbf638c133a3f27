//! What can be reached: nodes, databases, apps, Kubernetes clusters, desktops.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterName, HostId, IdError, Login, ResourceName, is_dns_label};

/// The kinds of resource that an agent serves.
///
/// A new kind must be listed in [`ResourceKind::ALL`] and in the golden policy matrix; the
/// exhaustive matches over it make the compiler say where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A host reached by SSH.
    Node,
    /// A database server.
    #[serde(rename = "db")]
    Database,
    /// A web application.
    App,
    /// A Kubernetes cluster.
    #[serde(rename = "kube")]
    KubernetesCluster,
    /// A Windows desktop reached by RDP.
    Desktop,
}

impl ResourceKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Node, Self::Database, Self::App, Self::KubernetesCluster, Self::Desktop];

    /// The word for it in DNS names, key paths and the API: `node`, `db`, `app`, `kube`, `desktop`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Database => "db",
            Self::App => "app",
            Self::KubernetesCluster => "kube",
            Self::Desktop => "desktop",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ResourceKind {
    type Err = ResourceRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| ResourceRefError::Kind(text.chars().take(40).collect()))
    }
}

/// A kind and a name: `node/web-1`. Says which resource, not what is known about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceRef {
    /// What it is.
    pub kind: ResourceKind,
    /// What it is called among its kind.
    pub name: ResourceName,
}

impl ResourceRef {
    /// A node by name.
    pub fn node(name: ResourceName) -> Self {
        Self { kind: ResourceKind::Node, name }
    }

    /// The name in DNS, under which clients reach it and its certificate is made out:
    /// `web-1.node.example.com`. See [`dns_label`] for names that are no DNS label.
    pub fn dns_name(&self, cluster: &ClusterName) -> String {
        format!("{}.{}.{cluster}", dns_label(&self.name), self.kind)
    }

    /// The resource that a DNS name stands for, if it is one of this cluster's.
    pub fn from_dns_name(dns: &str, cluster: &ClusterName) -> Option<DnsResource> {
        let rest = dns.strip_suffix(cluster.as_str())?.strip_suffix('.')?;
        let (label, kind) = rest.rsplit_once('.')?;
        Some(DnsResource { kind: kind.parse().ok()?, label: label.to_owned() })
    }
}

/// A resource as a DNS name tells it: its kind, and the label that [`dns_label`] makes of its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsResource {
    /// What it is.
    pub kind: ResourceKind,
    /// [`dns_label`] of its name.
    pub label: String,
}

/// A resource's name as one DNS label.
///
/// A name that is a DNS label in lower case stands for itself. Any other becomes `x` and two
/// dashes, then its lower-case letters, digits and dashes as far as they fit, a dash, and the
/// first 16 hexadecimal digits of the SHA-256 of the name: `Web 1` → `x--eb1-…`. Two names share
/// a label only when a hash collides; names that themselves start with `x--` are encoded too, so
/// that none can claim another's label.
pub fn dns_label(name: &ResourceName) -> String {
    let name = name.as_str();
    if is_dns_label(name) && !name.starts_with("x--") {
        return name.to_owned();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    let hash = data_encoding::HEXLOWER.encode(digest.as_ref());
    let kept: String = name
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
        .take(40)
        .collect();
    format!("x--{kept}-{}", hash.get(..16).unwrap_or_default())
}

impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl From<ResourceRef> for String {
    fn from(resource: ResourceRef) -> Self {
        resource.to_string()
    }
}

/// A text that names no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceRefError {
    /// The kind is none that exists.
    #[error("{0:?} is no kind of resource: use node, db, app, kube or desktop")]
    Kind(String),
    /// There is no slash between kind and name.
    #[error("a resource is written KIND/NAME, such as node/web-1")]
    Form,
    /// The name is none.
    #[error(transparent)]
    Name(#[from] IdError),
}

impl std::str::FromStr for ResourceRef {
    type Err = ResourceRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = text.split_once('/').ok_or(ResourceRefError::Form)?;
        Ok(Self { kind: kind.parse()?, name: ResourceName::new(name)? })
    }
}

impl TryFrom<String> for ResourceRef {
    type Error = ResourceRefError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Labels of a resource: `env: prod`.
pub type Labels = BTreeMap<String, String>;

/// What the cluster knows of a resource: the gate decides over this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Which one.
    #[serde(rename = "ref")]
    pub id: ResourceRef,
    /// What the label matchers of roles look at.
    #[serde(default)]
    pub labels: Labels,
    /// The agent that serves it.
    pub host: HostId,
    /// The account that makes accounts of users on it, when it is a database that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_user: Option<Login>,
}

impl Resource {
    /// A resource of which nothing else is known.
    pub fn new(id: ResourceRef, labels: Labels, host: HostId) -> Self {
        Self { id, labels, host, admin_user: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ResourceName {
        ResourceName::new(text).unwrap()
    }

    #[test]
    fn dns_names_lead_back_to_their_resource() {
        let cluster = ClusterName::new("example.com").unwrap();
        let node = ResourceRef::node(name("web-1"));
        assert_eq!(node.dns_name(&cluster), "web-1.node.example.com");
        let back = ResourceRef::from_dns_name("web-1.node.example.com", &cluster).unwrap();
        assert_eq!((back.kind, back.label.as_str()), (ResourceKind::Node, "web-1"));
        for other in
            ["web-1.node.example.org", "node.example.com", "a.b.example.com", "example.com"]
        {
            assert_eq!(ResourceRef::from_dns_name(other, &cluster), None, "{other}");
        }
    }

    #[test]
    fn awkward_names_get_labels_of_their_own() {
        let labels = ["Web 1", "web_1", "WEB_1", "x--web", "ä"].map(|n| dns_label(&name(n)));
        for (i, label) in labels.iter().enumerate() {
            assert!(is_dns_label(label), "{label}");
            assert!(!labels[i + 1..].contains(label));
        }
    }
}
