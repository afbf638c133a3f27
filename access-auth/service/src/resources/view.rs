//! What of documents a caller gets.
//!
//! Whoever may read a kind reads its documents whole, but for hosts. A host that is stolen is
//! worth what it serves: of users it gets what decisions look at, and of other hosts what it takes
//! to find a proxy. A trait is what decisions look at when a role draws on it.

use std::collections::BTreeSet;

use access_client::types::{RoleDocument, ServerDocument, ServerSpec, UserDocument, UserSpec};
use access_core::document::{Document, DocumentSpec, Metadata};
use access_core::identity::Service;
use access_core::policy::{ApiKind, PolicySnapshot};
use access_core::role::Role;

use super::kinds::Public;
use crate::caller::Call;
use crate::error::Result;

/// What a caller gets of documents.
#[derive(Clone, Debug)]
pub(super) enum View {
    /// All that is in them.
    Whole,
    /// What hosts need to know.
    Host {
        /// Whether the host is a proxy, which has peers.
        proxy: bool,
        /// The traits that roles draw on.
        traits: BTreeSet<String>,
    },
}

impl View {
    /// The view of a caller, by the roles of the moment.
    pub(super) fn of(call: &Call, policy: &PolicySnapshot) -> Self {
        match call.identity().and_then(|who| who.host()) {
            Some((_, services)) if !services.contains(&Service::Auth) => Self::Host {
                proxy: services.contains(&Service::Proxy),
                traits: policy.trait_names(),
            },
            _ => Self::Whole,
        }
    }

    /// Takes in a role that the caller is about to get. Says whether the view has become wider, so
    /// that what was shown of users before is too little to decide by.
    pub(super) fn widen(&mut self, role: &Public) -> bool {
        let Self::Host { traits, .. } = self else { return false };
        let role = RoleDocument::from_json(&role.document.json);
        // One that cannot be read denies, whatever the traits.
        let Some(role) = role.ok().and_then(|role| Role::compile(&role).ok()) else { return false };
        let before = traits.len();
        traits.extend(role.trait_names().map(str::to_owned));
        traits.len() > before
    }

    /// The document as the caller gets it.
    pub(super) fn show(&self, public: Public) -> Result<Public> {
        let Self::Host { proxy, traits } = self else { return Ok(public) };
        match public.document.kind.as_str() {
            kind if kind == ApiKind::User.as_str() => {
                let shown = |user| of_user(user, traits);
                replace(public, UserDocument::from_json, shown)
            }
            kind if kind == ApiKind::Server.as_str() => {
                replace(public, ServerDocument::from_json, |server| of_server(server, *proxy))
            }
            _ => Ok(public),
        }
    }
}

/// Puts a narrower document in the place of a whole one. One that cannot be read is shown empty:
/// whoever gets it cannot read it either, and denies.
fn replace<S: DocumentSpec, E>(
    mut public: Public,
    read: impl Fn(&[u8]) -> Result<Document<S>, E>,
    narrow: impl Fn(S) -> S,
) -> Result<Public> {
    let metadata = &public.metadata;
    let metadata = Metadata {
        name: metadata.name.clone(),
        expires: metadata.expires,
        revision: metadata.revision.clone(),
        ..Metadata::default()
    };
    public.document.json = match read(&public.document.json) {
        Ok(whole) => Document { metadata: metadata.clone(), spec: narrow(whole.spec) }.to_json()?,
        Err(_) => b"{}".to_vec(),
    };
    public.metadata = metadata;
    Ok(public)
}

fn of_user(whole: UserSpec, traits: &BTreeSet<String>) -> UserSpec {
    let UserSpec { roles, traits: held, valid_after, locked, created_by: _, created_at: _ } = whole;
    let held = held.into_iter().filter(|(name, _)| traits.contains(name)).collect();
    UserSpec { roles, traits: held, valid_after, locked, created_by: None, created_at: None }
}

fn of_server(whole: ServerSpec, proxy: bool) -> ServerSpec {
    let ServerSpec { service, host, public_addrs, peer_addr, hostname: _, version: _, .. } = whole;
    ServerSpec {
        service,
        host,
        public_addrs,
        peer_addr: peer_addr.filter(|_| proxy),
        hostname: String::new(),
        version: String::new(),
        role_schema: 0,
    }
}
