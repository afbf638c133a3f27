//! All streams of a tunnel and the sums over them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::stream::StreamState;
use crate::config::{Config, MIN_WINDOW};
use crate::frame::{Role, StreamId};

#[derive(Debug)]
pub(crate) struct Table {
    role: Role,
    map: HashMap<StreamId, StreamState, BuildHasherDefault<IdHasher>>,
    /// Next id of each side; 0 when the side has used all of its ids.
    next_local: u32,
    next_remote: u32,
    /// Entries by who opened them, and those of them that are not over on the wire.
    local: usize,
    remote: usize,
    local_live: usize,
    remote_live: usize,
    /// Bytes received and not read.
    pub(crate) unread: usize,
    /// Bytes written and not sent.
    pub(crate) unsent: usize,
    /// Sum of the receive windows.
    pub(crate) windows: usize,
}

impl Table {
    pub(crate) fn new(role: Role) -> Self {
        let (next_local, next_remote) = match role {
            Role::Client => (1, 2),
            Role::Server => (2, 1),
        };
        Self {
            role,
            map: HashMap::default(),
            next_local,
            next_remote,
            local: 0,
            remote: 0,
            local_live: 0,
            remote_live: 0,
            unread: 0,
            unsent: 0,
            windows: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(crate) fn is_local(&self, id: StreamId) -> bool {
        (id.0 % 2 == 1) == (self.role == Role::Client)
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&StreamState> {
        self.map.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut StreamState> {
        self.map.get_mut(&id)
    }

    /// Whether the id was ever used; a frame for such a stream may just be late.
    pub(crate) fn was_opened(&self, id: StreamId) -> bool {
        let next = if self.is_local(id) { self.next_local } else { self.next_remote };
        next == 0 || id.0 < next
    }

    pub(crate) fn local_id(&mut self) -> Option<StreamId> {
        take_id(&mut self.next_local)
    }

    /// Whether `id` is what the peer has to open next; if so it is used up.
    pub(crate) fn remote_id(&mut self, id: StreamId) -> bool {
        id.0 == self.next_remote && take_id(&mut self.next_remote).is_some()
    }

    pub(crate) fn local(&self) -> usize {
        self.local
    }

    pub(crate) fn local_live(&self) -> usize {
        self.local_live
    }

    pub(crate) fn remote(&self) -> usize {
        self.remote
    }

    pub(crate) fn remote_live(&self) -> usize {
        self.remote_live
    }

    /// The window for one more stream, or `None` if there is no memory for it. A share of the
    /// whole that falls with the number of streams, so that many fit and growth keeps room.
    pub(crate) fn next_window(&self, config: &Config) -> Option<u32> {
        let share = config.max_receive_memory / 8 / (self.map.len() + 1);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let window = share.clamp(MIN_WINDOW, config.initial_window);
        let free = config.max_receive_memory.saturating_sub(self.windows);
        if free >= window as usize {
            Some(window)
        } else {
            (free >= MIN_WINDOW as usize).then_some(MIN_WINDOW)
        }
    }

    pub(crate) fn insert(&mut self, id: StreamId, state: StreamState) {
        self.windows += state.window.size() as usize;
        if self.is_local(id) {
            self.local += 1;
            self.local_live += 1;
        } else {
            self.remote += 1;
            self.remote_live += 1;
        }
        self.map.insert(id, state);
    }

    pub(crate) fn remove(&mut self, id: StreamId) {
        self.not_live(id);
        let Some(state) = self.map.remove(&id) else { return };
        self.windows -= state.window.size() as usize;
        self.unread -= state.incoming.len();
        self.unsent -= state.outgoing.len();
        if self.is_local(id) {
            self.local -= 1;
        } else {
            self.remote -= 1;
        }
        if self.map.len() * 8 < self.map.capacity() && self.map.capacity() > 64 {
            self.map.shrink_to_fit();
        }
    }

    /// The stream is over on the wire: the peer may open another in its place.
    pub(crate) fn not_live(&mut self, id: StreamId) {
        let local = self.is_local(id);
        let Some(state) = self.map.get_mut(&id).filter(|s| s.live) else { return };
        state.live = false;
        if local {
            self.local_live -= 1;
        } else {
            self.remote_live -= 1;
        }
    }

    pub(crate) fn discard_outgoing(&mut self) {
        for state in self.map.values_mut() {
            self.unsent -= state.outgoing.clear();
        }
    }
}

fn take_id(next: &mut u32) -> Option<StreamId> {
    if *next == 0 {
        return None;
    }
    let id = *next;
    *next = id.checked_add(2).unwrap_or(0);
    Some(StreamId(id))
}

/// Ids come in sequence, so a peer cannot choose them to collide; one multiplication spreads them.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        let mixed = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed.rotate_left(26);
    }
}
