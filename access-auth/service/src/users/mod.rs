//! Local users: making them, inviting them, letting them in and out.

mod account;
mod invite;
mod login;
mod tries;

pub(crate) use tries::Tries;

pub(crate) use account::is_past;
pub(crate) use invite::{REMEMBERED, ttl};

use access_backend::Key;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::store;

/// A user's password, hashed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Password {
    /// In the PHC string format.
    hash: String,
}

/// The hash of a ticket: an invitation's or a join token's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TicketHash {
    pub(crate) hash: String,
}

fn user_key(name: &str) -> Result<Key> {
    store::key(["users", name])
}

pub(crate) fn password_key(name: &str) -> Result<Key> {
    store::key(["private", "passwords", name])
}
