//! What the driver, the handles and the streams of one tunnel share.
//!
//! Everything stands under one lock, which is never held across I/O. Whoever finds that it has to
//! wait leaves its waker under the same lock under which it found so, and whoever changes that
//! takes the waker under the same lock: no wake-up can fall between. Wakers are called after the
//! lock is released.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

use tokio::sync::watch;

use crate::code::CloseCode;
use crate::connection::{Connection, Event, IdHasher};
use crate::error::CloseReason;
use crate::frame::StreamId;

pub(crate) struct Shared {
    state: Mutex<State>,
    status: watch::Sender<Status>,
}

/// What many may wait for at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) established: bool,
    pub(crate) peer_going_away: bool,
    /// The tunnel carries no streams any more.
    pub(crate) failed: Option<CloseReason>,
    /// The driver has ended.
    pub(crate) done: bool,
}

type Wakers = HashMap<StreamId, Waker, BuildHasherDefault<IdHasher>>;

pub(crate) struct State {
    pub(crate) conn: Connection,
    driver: Option<Waker>,
    /// The driver sleeps with nothing to write: whoever has something wakes it.
    driver_idle: bool,
    readers: Wakers,
    writers: Wakers,
    incoming: Option<Waker>,
    /// Handles, streams and the acceptor. Without any, the tunnel drains.
    users: usize,
}

/// The time, which tests of the embedding program may pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Shared {
    /// With one user for the first handle and one for the acceptor.
    pub(crate) fn new(conn: Connection) -> Self {
        Self {
            state: Mutex::new(State {
                conn,
                driver: None,
                driver_idle: false,
                readers: Wakers::default(),
                writers: Wakers::default(),
                incoming: None,
                users: 2,
            }),
            status: watch::Sender::new(Status::default()),
        }
    }

    /// Acts on the state, then wakes whom that concerns.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        self.act(false, act)
    }

    /// As [`with`](Self::with), for what may bring a deadline closer: the driver is woken even if
    /// it waits for the transport.
    pub(crate) fn with_urgently<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        self.act(true, act)
    }

    fn act<R>(&self, urgent: bool, act: impl FnOnce(&mut State) -> R) -> R {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let result = act(&mut state);
        state.dispatch(&self.status, &mut wakers);
        let driver = if urgent || (state.driver_idle && state.conn.wants_transmit()) {
            state.driver_idle = false;
            state.driver.take()
        } else {
            None
        };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        for waker in wakers {
            waker.wake();
        }
        result
    }

    /// As [`with`](Self::with), for the driver itself: leaves the wakers to be called to it.
    pub(crate) fn drive<R>(&self, wakers: &mut Vec<Waker>, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        state.dispatch(&self.status, wakers);
        result
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The driver ends.
    pub(crate) fn done(&self) {
        self.status.send_modify(|s| s.done = true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No invariant spans a panic: every call of the machine leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn wait_readable(&mut self, id: StreamId, cx: &Context<'_>) {
        self.readers.insert(id, cx.waker().clone());
    }

    pub(crate) fn wait_writable(&mut self, id: StreamId, cx: &Context<'_>) {
        self.writers.insert(id, cx.waker().clone());
    }

    pub(crate) fn wait_incoming(&mut self, cx: &Context<'_>) {
        self.incoming = Some(cx.waker().clone());
    }

    /// The driver goes to sleep; `idle` if it has nothing left to write.
    pub(crate) fn park_driver(&mut self, cx: &Context<'_>, idle: bool) {
        match &mut self.driver {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        self.driver_idle = idle;
    }

    /// The driver is awake and will look at everything before it sleeps.
    pub(crate) fn driver_awake(&mut self) {
        self.driver_idle = false;
    }

    pub(crate) fn add_user(&mut self) {
        self.users += 1;
    }

    /// True if that was the last one; then the tunnel drains.
    pub(crate) fn remove_user(&mut self) -> bool {
        self.users -= 1;
        if self.users == 0 {
            self.conn.go_away(CloseCode::NORMAL);
        }
        self.users == 0
    }

    /// Lets go of a stream.
    pub(crate) fn detach(&mut self, id: StreamId) {
        self.readers.remove(&id);
        self.writers.remove(&id);
        self.conn.detach(id);
    }

    /// Gives back memory that a busy time left behind.
    pub(crate) fn shrink(&mut self) {
        self.conn.shrink();
        for wakers in [&mut self.readers, &mut self.writers] {
            if wakers.capacity() > 64 && wakers.len() * 8 < wakers.capacity() {
                wakers.shrink_to_fit();
            }
        }
    }

    fn dispatch(&mut self, status: &watch::Sender<Status>, wakers: &mut Vec<Waker>) {
        while let Some(event) = self.conn.poll_event() {
            match event {
                Event::Established => status.send_modify(|s| s.established = true),
                Event::PeerGoingAway => status.send_modify(|s| s.peer_going_away = true),
                Event::Incoming => wakers.extend(self.incoming.take()),
                Event::Answered(id) | Event::Readable(id) => {
                    wakers.extend(self.readers.remove(&id));
                }
                Event::Writable(id) => wakers.extend(self.writers.remove(&id)),
                Event::Closed => {
                    let reason = self.conn.close_reason().cloned();
                    status.send_modify(|s| s.failed = reason);
                    wakers.extend(self.readers.drain().map(|(_, w)| w));
                    wakers.extend(self.writers.drain().map(|(_, w)| w));
                    wakers.extend(self.incoming.take());
                }
            }
        }
    }
}
