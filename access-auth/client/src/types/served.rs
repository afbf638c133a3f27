//! What agents serve: a document for each kind of resource.

use access_core::document::{Document, DocumentError, DocumentSpec, Metadata};
use access_core::policy::ApiKind;
use access_core::role::ROLE_SCHEMA;
use access_core::{HostId, Login, Resource, ResourceName, ResourceRef};
use serde::{Deserialize, Serialize};

use super::{DbSpec, NodeSpec, is_default};

/// What the documents of every kind of resource have in common.
pub trait Served: DocumentSpec {
    /// The agent that serves it; none for what administrators registered, which any number may.
    fn host(&self) -> Option<&HostId>;

    /// The schema of roles that the agent knows (see [`ROLE_SCHEMA`]); 0 when it does not say,
    /// which stands for 1.
    fn role_schema(&self) -> u32;

    /// The account that makes accounts of users on it, where there is one.
    fn admin_user(&self) -> Option<&Login> {
        None
    }

    /// Whether its texts are within bounds.
    ///
    /// # Errors
    /// [`DocumentError::Field`] names the field that is not.
    fn check(&self) -> Result<(), DocumentError> {
        Ok(())
    }

    /// What decisions over the resource look at. Of what no agent has for itself, the host is one
    /// that nobody is.
    ///
    /// # Errors
    /// [`DocumentError::Field`] when the document's name is none.
    fn resource(&self, metadata: &Metadata) -> Result<Resource, DocumentError> {
        let kind = Self::KIND
            .resource()
            .ok_or_else(|| DocumentError::Field(format!("{} is no resource", Self::KIND)))?;
        let name = ResourceName::new(&metadata.name)
            .map_err(|err| DocumentError::Field(format!("metadata.name: {err}")))?;
        let id = ResourceRef { kind, name };
        let host = self.host().cloned().unwrap_or_else(|| HostId::from_random([0; 16]));
        let mut resource = Resource::new(id, metadata.labels.clone(), host);
        resource.admin_user = self.admin_user().cloned();
        Ok(resource)
    }
}

macro_rules! served {
    ($($(#[$doc:meta])* $document:ident, $spec:ident, $kind:ident {
        $($(#[$field_doc:meta])* $field:ident,)*
    })*) => {$(
        #[doc = concat!("A document with a [`", stringify!($spec), "`]. Its labels are the")]
        /// document's; it expires unless its agent writes it again.
        pub type $document = Document<$spec>;

        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $spec {
            /// The agent that serves it.
            pub host: HostId,
            /// What the agent's host calls itself.
            #[serde(default, skip_serializing_if = "is_default")]
            pub hostname: String,
            /// The agent's version.
            #[serde(default, skip_serializing_if = "is_default")]
            pub version: String,
            /// The schema of roles that the agent knows; 0 when it does not say.
            #[serde(default, skip_serializing_if = "is_default")]
            pub role_schema: u32,
            $($(#[$field_doc])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<String>,)*
        }

        impl $spec {
            /// One of which nothing is known but its agent, a program of this version.
            pub fn new(host: HostId) -> Self {
                Self {
                    host,
                    hostname: String::new(),
                    version: String::new(),
                    role_schema: ROLE_SCHEMA,
                    $($field: None,)*
                }
            }
        }

        impl DocumentSpec for $spec {
            const KIND: ApiKind = ApiKind::$kind;
        }

        impl Served for $spec {
            fn host(&self) -> Option<&HostId> {
                Some(&self.host)
            }

            fn role_schema(&self) -> u32 {
                self.role_schema
            }
        }
    )*};
}

served! {
    /// What an agent tells about a web application that it serves.
    AppDocument, AppSpec, App {
        /// Where the agent reaches it.
        uri,
        /// The name that browsers know it by.
        public_addr,
    }
    /// What an agent tells about a Kubernetes cluster that it serves.
    KubeDocument, KubeSpec, Kube {}
    /// What an agent tells about a Windows desktop that it serves.
    DesktopDocument, DesktopSpec, Desktop {
        /// Where the agent reaches it, `HOST:PORT`.
        addr,
    }
}

impl Served for NodeSpec {
    fn host(&self) -> Option<&HostId> {
        Some(&self.host)
    }

    fn role_schema(&self) -> u32 {
        self.role_schema
    }
}

/// The resource that a document of one of the five kinds registers, and the schema of roles that
/// its agent knows.
///
/// # Errors
/// [`DocumentError`] when it is no such document.
pub fn read_served(kind: ApiKind, json: &[u8]) -> Result<(Resource, u32), DocumentError> {
    fn read<S: Served>(json: &[u8]) -> Result<(Resource, u32), DocumentError> {
        let document = Document::<S>::from_json(json)?;
        Ok((document.spec.resource(&document.metadata)?, document.spec.role_schema()))
    }
    match kind {
        ApiKind::Node => read::<NodeSpec>(json),
        ApiKind::Db => read::<DbSpec>(json),
        ApiKind::App => read::<AppSpec>(json),
        ApiKind::Kube => read::<KubeSpec>(json),
        ApiKind::Desktop => read::<DesktopSpec>(json),
        other => Err(DocumentError::Field(format!("{other} is no resource"))),
    }
}
