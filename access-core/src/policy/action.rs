//! What somebody asks to do, to what, and under which circumstances.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{HostId, Login, TraceId};
use crate::resource::{Resource, ResourceKind};

/// What is asked for. Everything that a decision depends on is in here or in the [`Target`], and
/// both travel inside the permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To learn that a resource exists and be led to it: listing, routing, the SSH jump host.
    See,
    /// A shell or command on a node.
    SshSession {
        /// As whom.
        login: Login,
    },
    /// Files by SFTP on a node.
    SshSftp {
        /// As whom.
        login: Login,
    },
    /// A connection from the node to an address (`ssh -L`, `ssh -W`).
    SshForward {
        /// As whom.
        login: Login,
        /// The host to dial, as the client wrote it.
        host: String,
        /// The port to dial.
        port: u16,
    },
    /// A listener on the node whose connections go to the client (`ssh -R`).
    SshListen {
        /// As whom.
        login: Login,
        /// The address to listen on.
        host: String,
        /// The port to listen on.
        port: u16,
    },
    /// A socket on the node that leads to the client's SSH agent (`ssh -A`).
    SshAgent {
        /// As whom.
        login: Login,
    },
    /// A database session.
    Database {
        /// The database account.
        user: Login,
        /// The database's name on the server.
        database: String,
    },
    /// One statement within a database session. It needs what the session needs, and that no
    /// option of a role forbids the statement.
    DatabaseStatement {
        /// The database account.
        user: Login,
        /// The database's name on the server.
        database: Arc<str>,
        /// What it carries out, in upper case: `SELECT`, `DROP TABLE`, `COPY FROM`. A statement
        /// that carries out several is asked for once for each.
        command: Cow<'static, str>,
        /// Whether it may change anything, or lift what keeps the session from that.
        writes: bool,
    },
    /// One request to a web application.
    App {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
    /// One request to a Kubernetes API.
    Kubernetes {
        /// The verb, as Kubernetes has it.
        verb: String,
        /// The namespace; none for cluster-wide resources.
        namespace: Option<String>,
        /// The resource's plural name, such as `pods`.
        resource: String,
        /// The object's name, when it names one.
        name: Option<String>,
    },
    /// A desktop session.
    Desktop {
        /// The Windows account.
        login: Login,
    },
    /// A call to the cluster's own API; the target is [`Target::Api`].
    Api(Verb),
}

impl Action {
    /// One word for events and error messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::See => "see",
            Self::SshSession { .. } => "ssh.session",
            Self::SshSftp { .. } => "ssh.sftp",
            Self::SshForward { .. } => "ssh.forward",
            Self::SshListen { .. } => "ssh.listen",
            Self::SshAgent { .. } => "ssh.agent",
            Self::Database { .. } => "db",
            Self::DatabaseStatement { .. } => "db.statement",
            Self::App { .. } => "app",
            Self::Kubernetes { .. } => "kube",
            Self::Desktop { .. } => "desktop",
            Self::Api(verb) => verb.as_str(),
        }
    }

    /// Whether it opens a session on a target: recorded when allowed, and counted.
    pub(crate) const fn opens_session(&self) -> bool {
        match self {
            Self::SshSession { .. }
            | Self::Database { .. }
            | Self::App { .. }
            | Self::Kubernetes { .. }
            | Self::Desktop { .. } => true,
            Self::See
            | Self::SshSftp { .. }
            | Self::SshForward { .. }
            | Self::SshListen { .. }
            | Self::SshAgent { .. }
            | Self::DatabaseStatement { .. }
            | Self::Api(_) => false,
        }
    }

    /// The account on the target, when the action has one.
    pub const fn login(&self) -> Option<&Login> {
        match self {
            Self::SshSession { login }
            | Self::SshSftp { login }
            | Self::SshForward { login, .. }
            | Self::SshListen { login, .. }
            | Self::SshAgent { login }
            | Self::Desktop { login } => Some(login),
            Self::Database { user, .. } | Self::DatabaseStatement { user, .. } => Some(user),
            Self::See | Self::App { .. } | Self::Kubernetes { .. } | Self::Api(_) => None,
        }
    }
}

/// What may be done to a kind of document of the cluster's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Make one.
    Create,
    /// Read one.
    Read,
    /// Read many, and watch them.
    List,
    /// Change one.
    Update,
    /// Remove one.
    Delete,
    /// Have it do what it is for: sign with an authority, emit to the audit log.
    Use,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 6] =
        [Self::Create, Self::Read, Self::List, Self::Update, Self::Delete, Self::Use];

    /// The word in role documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::List => "list",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Use => "use",
        }
    }
}

macro_rules! api_kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The kinds of document and of service that the cluster's API guards with role rules.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum ApiKind {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl ApiKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word in role documents, key paths and the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

api_kinds! {
    /// Users.
    User = "user",
    /// Roles.
    Role = "role",
    /// Join tokens.
    Token = "token",
    /// Invitations and password resets.
    Invite = "invite",
    /// Nodes.
    Node = "node",
    /// Databases.
    Db = "db",
    /// Web apps.
    App = "app",
    /// Kubernetes clusters.
    Kube = "kube",
    /// Windows desktops.
    Desktop = "desktop",
    /// Proxies and Auth replicas that are up.
    Server = "server",
    /// Certificate authorities (their public halves).
    Authority = "authority",
    /// Certificates issued for somebody else.
    Certificate = "certificate",
    /// Locks.
    Lock = "lock",
    /// Access requests.
    AccessRequest = "access_request",
    /// The audit log.
    Event = "event",
    /// Session recordings.
    Session = "session",
    /// Settings of the whole cluster.
    ClusterConfig = "cluster_config",
}

impl ApiKind {
    /// The kind of document that registers a resource.
    pub const fn of_resource(kind: ResourceKind) -> Self {
        match kind {
            ResourceKind::Node => Self::Node,
            ResourceKind::Database => Self::Db,
            ResourceKind::App => Self::App,
            ResourceKind::KubernetesCluster => Self::Kube,
            ResourceKind::Desktop => Self::Desktop,
        }
    }

    /// The kind of resource that documents of this kind register, if they do.
    pub fn resource(self) -> Option<ResourceKind> {
        ResourceKind::ALL.into_iter().find(|kind| Self::of_resource(*kind) == self)
    }
}

impl fmt::Display for ApiKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// To what it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A resource, with the labels that the decision looks at.
    Resource(Resource),
    /// A document of the cluster's API.
    Api {
        /// Its kind.
        kind: ApiKind,
        /// Its name; none when the whole kind is meant.
        name: Option<String>,
        /// The host that it belongs to, when it belongs to one: hosts may write what is their own.
        owner: Option<HostId>,
    },
}

impl Target {
    /// A whole kind of the API.
    pub const fn api(kind: ApiKind) -> Self {
        Self::Api { kind, name: None, owner: None }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(resource) => fmt::Display::fmt(&resource.id, f),
            Self::Api { kind, name: Some(name), .. } => write!(f, "{kind}/{name}"),
            Self::Api { kind, name: None, .. } => fmt::Display::fmt(kind, f),
        }
    }
}

/// The circumstances of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Where the client is, as far as it is known. A source pin without it is a denial.
    pub client_addr: Option<IpAddr>,
    /// Ties events of several machines together.
    pub trace_id: Option<TraceId>,
}
