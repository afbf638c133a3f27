//! Changes of stored resources whose kind has no events of its own.

use super::shared::Actor;
use crate::audit::Text;
use crate::time::Timestamp;

events! {
    area "resource";

    /// A resource was created.
    ResourceCreate = "resource.create" {
        code "ACR00I";
        with actor: Actor;
        /// Its kind.
        kind: Text<64>,
        /// Its name.
        name: Text<256>,
        /// When it expires.
        expires: Option<Timestamp>,
    }

    /// A resource was changed.
    ResourceUpdate = "resource.update" {
        code "ACR01I";
        with actor: Actor;
        /// Its kind.
        kind: Text<64>,
        /// Its name.
        name: Text<256>,
        /// When it expires.
        expires: Option<Timestamp>,
    }

    /// A resource was deleted.
    ResourceDelete = "resource.delete" {
        code "ACR02I";
        with actor: Actor;
        /// Its kind.
        kind: Text<64>,
        /// Its name.
        name: Text<256>,
    }

    /// A resource's name was taken from the agent that owned it, and is free for another.
    ResourceRelease = "resource.release" {
        code "ACR03I";
        with actor: Actor;
        /// Its kind.
        kind: Text<64>,
        /// Its name.
        name: Text<256>,
        /// The agent that owned it.
        host_id: Text<256>,
    }
}
