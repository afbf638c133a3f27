//! The table of kinds that have documents, and how a row becomes what the API carries.

use access_backend::{Item, Key, Prefix};
use access_ca::AuthorityDocument as StoredAuthority;
use access_client::proto;
use access_client::types::{AuthorityDocument, AuthoritySpec};
use access_core::Timestamp;
use access_core::document::Metadata;
use access_core::identity::AuthorityKind;
use access_core::policy::ApiKind;

use crate::error::{Error, Result};
use crate::store;

/// A kind that has documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KindEntry {
    pub(crate) kind: ApiKind,
    /// Where its rows are.
    folder: &'static str,
}

/// Every kind that has documents.
const KINDS: &[KindEntry] = &[
    KindEntry { kind: ApiKind::User, folder: "users" },
    KindEntry { kind: ApiKind::Role, folder: "roles" },
    KindEntry { kind: ApiKind::Token, folder: "tokens" },
    KindEntry { kind: ApiKind::Invite, folder: "invites" },
    KindEntry { kind: ApiKind::Node, folder: "nodes" },
    KindEntry { kind: ApiKind::Db, folder: "dbs" },
    KindEntry { kind: ApiKind::App, folder: "apps" },
    KindEntry { kind: ApiKind::Kube, folder: "kubes" },
    KindEntry { kind: ApiKind::Desktop, folder: "desktops" },
    KindEntry { kind: ApiKind::Server, folder: "servers" },
    KindEntry { kind: ApiKind::Authority, folder: "authorities" },
    KindEntry { kind: ApiKind::Lock, folder: "locks" },
    KindEntry { kind: ApiKind::Session, folder: "recordings" },
    KindEntry { kind: ApiKind::ClusterConfig, folder: "cluster" },
];

impl KindEntry {
    /// The kind of a name.
    pub(crate) fn find(name: &str) -> Result<Self> {
        KINDS.iter().copied().find(|entry| entry.kind.as_str() == name).ok_or_else(|| {
            let valid: Vec<&str> = KINDS.iter().map(|entry| entry.kind.as_str()).collect();
            Error::Invalid(access_core::document::unknown("kind", name, &valid))
        })
    }

    /// The entry of a kind that has documents.
    pub(crate) fn of(kind: ApiKind) -> Result<Self> {
        Self::find(kind.as_str())
    }

    /// The kind that a row is of.
    pub(crate) fn of_key(key: &Key) -> Option<Self> {
        let folder = key.segments().next()?;
        KINDS.iter().copied().find(|entry| entry.folder == folder)
    }

    /// What all of its rows are below.
    pub(crate) fn prefix(self) -> Result<Prefix> {
        Ok(Prefix::from_segments([self.folder])?)
    }

    /// The row of a document. An authority's has the cluster's name too.
    pub(crate) fn key(self, name: &str, cluster: &str) -> Result<Key> {
        match self.kind {
            ApiKind::Authority => store::key([self.folder, name, cluster]),
            _ => store::key([self.folder, name]),
        }
    }

    /// The name of the document in a row.
    pub(crate) fn name_in(self, key: &Key) -> String {
        let name = match self.kind {
            ApiKind::Authority => key.segments().nth(1),
            _ => key.segments().next_back(),
        };
        name.unwrap_or_default().to_owned()
    }

    /// Whether a row is an authority that proves no identities. Hosts follow the others, to know
    /// their peers by; those of earlier versions cannot read these.
    pub(crate) fn is_authority_of_databases(self, key: &Key) -> bool {
        let name = self.name_in(key);
        self.kind == ApiKind::Authority
            && AuthorityKind::ALL
                .into_iter()
                .any(|kind| kind.as_str() == name && !kind.proves_identities())
    }

    /// A row as the API carries it; `None` for what has expired.
    pub(crate) fn public(self, item: &Item, now: Timestamp) -> Result<Option<Public>> {
        let revision = item.revision.to_string();
        if self.kind == ApiKind::Authority {
            return self.public_authority(item, revision).map(Some);
        }
        let mut value: serde_json::Value = serde_json::from_slice(&item.value)
            .map_err(|err| Error::stored(item.key.as_str(), err))?;
        let metadata = value
            .get_mut("metadata")
            .and_then(serde_json::Value::as_object_mut)
            .ok_or_else(|| Error::stored(item.key.as_str(), "it has no metadata"))?;
        metadata.insert("revision".into(), revision.clone().into());
        let metadata: Metadata =
            serde_json::from_value(serde_json::Value::Object(metadata.clone()))
                .map_err(|err| Error::stored(item.key.as_str(), err))?;
        if metadata.expires.is_some_and(|expires| expires <= now) {
            return Ok(None);
        }
        let json = serde_json::to_vec(&value).map_err(|err| Error::Internal(err.to_string()))?;
        Ok(Some(Public {
            document: proto::Document {
                kind: self.kind.as_str().to_owned(),
                name: metadata.name.clone(),
                json,
                revision,
                ..proto::Document::default()
            },
            metadata,
        }))
    }

    /// An authority without its private keys.
    fn public_authority(self, item: &Item, revision: String) -> Result<Public> {
        let stored: StoredAuthority = serde_json::from_slice(&item.value)
            .map_err(|err| Error::stored(item.key.as_str(), err))?;
        let spec = AuthoritySpec::try_from(&stored.trusted())
            .map_err(|err| Error::stored(item.key.as_str(), err))?;
        let mut document = AuthorityDocument::new(self.name_in(&item.key), spec);
        document.metadata.revision = Some(revision.clone());
        let json = document.to_json()?;
        let metadata = document.metadata;
        Ok(Public {
            document: proto::Document {
                kind: self.kind.as_str().to_owned(),
                name: metadata.name.clone(),
                json,
                revision,
                ..proto::Document::default()
            },
            metadata,
        })
    }
}

/// A document as the API carries it.
#[derive(Clone)]
pub(crate) struct Public {
    pub(crate) document: proto::Document,
    pub(crate) metadata: Metadata,
}
