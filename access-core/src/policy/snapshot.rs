//! The policy at one moment: roles, users, locks and settings, ready to decide over.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::action::ApiKind;
use super::lock::{Lock, LockIndex};
use super::user::UserState;
use crate::document::DocumentSpec;
use crate::ids::{RoleName, UserName};
use crate::role::{RecordMode, Role, RoleDocument, RoleError, Span};

/// Settings of the whole cluster that decisions look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// What happens when a session cannot be recorded, unless a role says.
    pub session_recording: RecordMode,
    /// The longest life of a certificate, whatever roles say.
    pub max_session_ttl: Span,
    /// How long nothing may pass before a session ends; roles can only shorten it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_idle_timeout: Option<Span>,
    /// Whether sessions end with the certificate; roles can demand it where this does not.
    pub disconnect_expired_cert: bool,
    /// Whether each session needs a certificate that was made for its target with a second factor.
    pub require_session_mfa: bool,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            session_recording: RecordMode::BestEffort,
            max_session_ttl: Span::hours(30),
            client_idle_timeout: None,
            disconnect_expired_cert: true,
            require_session_mfa: false,
        }
    }
}

impl DocumentSpec for ClusterSettings {
    const KIND: ApiKind = ApiKind::ClusterConfig;
}

/// Why a part of the policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A role cannot be read.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// A document cannot be read, in the words of whoever tried.
    #[error("{0}")]
    Document(String),
}

/// How many parts the users are kept in: a change copies one of them, not all.
const SHARDS: usize = 64;

type Shard = HashMap<UserName, Arc<UserEntry>>;

/// The policy at one moment. Cheap to clone, and to change in little through
/// [`PolicySnapshot::to_builder`].
#[derive(Clone, Debug)]
pub struct PolicySnapshot {
    settings: ClusterSettings,
    trust_unlisted: bool,
    /// Indexes into `slots`; a role keeps its index for good, so that users can refer to it.
    names: Arc<HashMap<RoleName, usize>>,
    slots: Vec<Slot>,
    locks: Arc<LockIndex>,
    users: Box<[Arc<Shard>]>,
}

/// What is known of a role.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Missing,
    Ready(Arc<Role>),
    Unreadable(Arc<PolicyError>),
}

/// A user with their roles looked up.
#[derive(Clone, Debug)]
pub(super) struct UserEntry {
    pub(super) state: UserState,
    pub(super) roles: Option<Box<[(RoleName, usize)]>>,
}

impl PolicySnapshot {
    /// Starts from nothing: no roles, no users, default settings. It denies everything.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder {
            snapshot: Self {
                settings: ClusterSettings::default(),
                trust_unlisted: false,
                names: Arc::default(),
                slots: Vec::new(),
                locks: Arc::default(),
                users: (0..SHARDS).map(|_| Arc::default()).collect(),
            },
        }
    }

    /// Starts from this snapshot; what is not changed is shared with it.
    pub fn to_builder(&self) -> PolicyBuilder {
        PolicyBuilder { snapshot: self.clone() }
    }

    /// The cluster's settings.
    pub fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    /// A role that can be read.
    pub fn role(&self, name: &RoleName) -> Option<&Role> {
        match self.slot_named(name)? {
            Slot::Ready(role) => Some(role),
            Slot::Missing | Slot::Unreadable(_) => None,
        }
    }

    /// The traits of users that decisions over the roles look at. Those of roles that cannot be
    /// read are not among them: such a role denies whatever the traits.
    pub fn trait_names(&self) -> BTreeSet<String> {
        let roles = self.slots.iter().filter_map(|slot| match slot {
            Slot::Ready(role) => Some(role),
            Slot::Missing | Slot::Unreadable(_) => None,
        });
        roles.flat_map(|role| role.trait_names()).map(str::to_owned).collect()
    }

    /// Whether a role exists, readable or not.
    pub fn has_role(&self, name: &RoleName) -> bool {
        self.slot_named(name).is_some()
    }

    /// A user's present state.
    pub fn user(&self, name: &UserName) -> Option<&UserState> {
        self.user_entry(name).map(|entry| &entry.state)
    }

    /// The roles that cannot be read, with what is wrong with them.
    pub fn unreadable_roles(&self) -> impl Iterator<Item = (&RoleName, &PolicyError)> {
        self.names.iter().filter_map(|(name, index)| match self.slots.get(*index)? {
            Slot::Unreadable(error) => Some((name, &**error)),
            Slot::Missing | Slot::Ready(_) => None,
        })
    }

    pub(super) fn trusts_unlisted_users(&self) -> bool {
        self.trust_unlisted
    }

    pub(super) fn locks(&self) -> &LockIndex {
        &self.locks
    }

    pub(super) fn user_entry(&self, name: &UserName) -> Option<&UserEntry> {
        self.users.get(shard_of(name))?.get(name).map(|entry| &**entry)
    }

    /// The slot of a role that exists.
    pub(super) fn slot_named(&self, name: &RoleName) -> Option<&Slot> {
        self.slot(*self.names.get(name)?)
    }

    pub(super) fn slot(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index).filter(|slot| !matches!(slot, Slot::Missing))
    }
}

/// FNV-1a: spreads names over shards; collisions cost nothing but evenness.
fn shard_of(name: &UserName) -> usize {
    let hash = name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash % SHARDS as u64).unwrap_or(0)
}

/// Makes a [`PolicySnapshot`], from nothing or from an earlier one.
#[derive(Clone, Debug)]
#[must_use]
pub struct PolicyBuilder {
    snapshot: PolicySnapshot,
}

impl PolicyBuilder {
    /// Sets the cluster's settings.
    pub fn settings(mut self, settings: ClusterSettings) -> Self {
        self.snapshot.settings = settings;
        self
    }

    /// Has users whom the snapshot does not list keep what their certificate says, until it ends:
    /// for policies that know roles and no users. Without it such users are denied.
    pub fn trust_unlisted_users(mut self) -> Self {
        self.snapshot.trust_unlisted = true;
        self
    }

    /// Adds or replaces a role. One that cannot be compiled denies everything to its holders; see
    /// [`PolicySnapshot::unreadable_roles`].
    pub fn role(mut self, document: &RoleDocument) -> Self {
        let slot = match Role::compile(document) {
            Ok(role) => Slot::Ready(Arc::new(role)),
            Err(error) => Slot::Unreadable(Arc::new(error.into())),
        };
        // A document whose name is none can be held by nobody.
        if let Ok(name) = RoleName::new(&document.metadata.name) {
            self.set_slot(&name, slot);
        }
        self
    }

    /// Adds or replaces a role whose document could not be read at all: it denies everything to
    /// its holders.
    pub fn unreadable_role(mut self, name: &RoleName, why: impl Into<String>) -> Self {
        let error = PolicyError::Document(why.into());
        self.set_slot(name, Slot::Unreadable(Arc::new(error)));
        self
    }

    /// Removes a role.
    pub fn remove_role(mut self, name: &RoleName) -> Self {
        if let Some(index) = self.snapshot.names.get(name)
            && let Some(slot) = self.snapshot.slots.get_mut(*index)
        {
            *slot = Slot::Missing;
        }
        self
    }

    /// Adds or replaces a user's or bot's state.
    pub fn user(mut self, name: UserName, state: UserState) -> Self {
        let roles = state
            .roles
            .as_ref()
            .map(|roles| roles.iter().map(|role| (role.clone(), self.index_of(role))).collect());
        if let Some(shard) = self.snapshot.users.get_mut(shard_of(&name)) {
            Arc::make_mut(shard).insert(name, Arc::new(UserEntry { state, roles }));
        }
        self
    }

    /// Removes a user, whose certificates are good for nothing then.
    pub fn remove_user(mut self, name: &UserName) -> Self {
        if let Some(shard) = self.snapshot.users.get_mut(shard_of(name)) {
            Arc::make_mut(shard).remove(name);
        }
        self
    }

    /// Adds or replaces a lock, by the name of its document.
    pub fn lock(mut self, name: &str, lock: Lock) -> Self {
        Arc::make_mut(&mut self.snapshot.locks).insert(name, lock);
        self
    }

    /// Removes a lock.
    pub fn remove_lock(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.snapshot.locks).remove(name);
        self
    }

    /// Removes all users, roles and locks: before reading them afresh.
    pub fn clear(mut self) -> Self {
        let PolicySnapshot { settings: _, trust_unlisted: _, names, slots, locks, users } =
            &mut self.snapshot;
        *names = Arc::default();
        slots.clear();
        Arc::make_mut(locks).clear();
        users.iter_mut().for_each(|shard| *shard = Arc::default());
        self
    }

    /// The snapshot.
    #[must_use]
    pub fn build(self) -> PolicySnapshot {
        self.snapshot
    }

    fn set_slot(&mut self, name: &RoleName, slot: Slot) {
        let index = self.index_of(name);
        if let Some(place) = self.snapshot.slots.get_mut(index) {
            *place = slot;
        }
    }

    fn index_of(&mut self, name: &RoleName) -> usize {
        if let Some(index) = self.snapshot.names.get(name) {
            return *index;
        }
        let index = self.snapshot.slots.len();
        self.snapshot.slots.push(Slot::Missing);
        Arc::make_mut(&mut self.snapshot.names).insert(name.clone(), index);
        index
    }
}
