//! What a host is told at its start.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use access_client::types::ResourceMatcher;
use access_client::{Cache, HostPort, proto};
use access_core::identity::{Service, SpkiPin};
use access_core::policy::ApiKind;
use access_core::{ClusterName, ResourceRef};
use zeroize::Zeroizing;

use crate::recordings::RecordingOptions;
use crate::spool::SpoolOptions;

/// A join token: the one secret that is handed to a host.
#[derive(Clone)]
pub struct JoinToken(Zeroizing<String>);

impl JoinToken {
    /// A token as it was printed; spaces around it do not count.
    pub fn new(text: impl Into<String>) -> Self {
        let text = Zeroizing::new(text.into());
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(…)")
    }
}

/// The way to Auth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthRoute {
    /// Through the public port of proxies.
    Proxies(Vec<HostPort>),
    /// Straight to the replicas of Auth.
    Direct(Vec<HostPort>),
}

/// What a host is told at its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostOptions {
    /// Where its state is kept; made if it is not there.
    pub data_dir: PathBuf,
    /// The way to Auth.
    pub route: AuthRoute,
    /// What the host calls itself.
    pub nodename: String,
    /// What it is there for.
    pub services: BTreeSet<Service>,
    /// What it serves.
    pub resources: Vec<ResourceRef>,
    /// Which databases that administrators registered it serves; beside `resources`, its
    /// certificates name those that match. It joins with these, and takes a new token for others.
    pub databases: Vec<ResourceMatcher>,
    /// Of a proxy: the names and addresses that clients know it by, without ports.
    pub public_names: Vec<String>,
    /// What to join with; not needed by a host that has joined.
    pub token: Option<JoinToken>,
    /// The cluster's pins; needed to join.
    pub pins: Vec<SpkiPin>,
    /// The cluster's name, when it is known; asked for, and proved by the pin, otherwise.
    pub cluster: Option<ClusterName>,
    /// What the cache follows. [`Cache::AGENT_KINDS`] unless it is said;
    /// [`Cache::PROXY_KINDS`] for proxies.
    pub follow: &'static [ApiKind],
    /// How much audit events may take on the disk.
    pub spool: SpoolOptions,
    /// How much recordings may take on the disk.
    pub recordings: RecordingOptions,
}

impl HostOptions {
    /// Options of a host with a data directory, a way to Auth and a name; the rest are fields.
    pub fn new(
        data_dir: impl Into<PathBuf>,
        route: AuthRoute,
        nodename: impl Into<String>,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            route,
            nodename: nodename.into(),
            services: BTreeSet::new(),
            resources: Vec::new(),
            databases: Vec::new(),
            public_names: Vec::new(),
            token: None,
            pins: Vec::new(),
            cluster: None,
            follow: Cache::AGENT_KINDS,
            spool: SpoolOptions::default(),
            recordings: RecordingOptions::default(),
        }
    }

    /// What the certificates are asked to say.
    pub(crate) fn claims(&self) -> proto::HostClaims {
        proto::HostClaims {
            nodename: self.nodename.clone(),
            services: self.services.iter().map(|service| service.as_str().to_owned()).collect(),
            resources: self.resources.iter().map(ToString::to_string).collect(),
            public_names: self.public_names.clone(),
            databases: self.databases.iter().map(ResourceMatcher::to_json).collect(),
        }
    }
}
