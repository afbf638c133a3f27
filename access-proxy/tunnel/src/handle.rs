//! Starting a tunnel, opening its streams and taking those of the peer.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::code::{CloseCode, RefuseCode};
use crate::config::Config;
use crate::connection::{Connection, Stats};
use crate::driver::Driver;
use crate::error::{CloseReason, Error};
use crate::frame::Role;
use crate::header::OpenHeader;
use crate::shared::{Shared, Status, now};
use crate::stream::Stream;

/// Makes tunnels.
#[derive(Debug)]
pub struct Tunnel;

impl Tunnel {
    /// A tunnel over `io` for the end that dialled. Spawn the [`Driver`].
    pub fn client<T>(io: T, config: Config) -> (Handle, Incoming, Driver<T>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        Self::start(io, Role::Client, config)
    }

    /// A tunnel over `io` for the end that was dialled. Spawn the [`Driver`].
    pub fn server<T>(io: T, config: Config) -> (Handle, Incoming, Driver<T>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        Self::start(io, Role::Server, config)
    }

    fn start<T>(io: T, role: Role, config: Config) -> (Handle, Incoming, Driver<T>) {
        let conn = Connection::new(role, config, now());
        let max_block = conn.config().read_buffer;
        let shared = Arc::new(Shared::new(conn));
        let driver = Driver::new(io, Arc::clone(&shared), max_block);
        (Handle { shared: Arc::clone(&shared) }, Incoming { shared }, driver)
    }
}

/// Opens streams on a tunnel and steers it. Once all handles and streams and the [`Incoming`] are
/// dropped, the tunnel delivers what is queued and closes.
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Opens a stream: waits until the tunnel is established and the peer has accepted. Giving up
    /// (dropping the future) cancels the open.
    ///
    /// # Errors
    /// [`Error::Refused`] with the peer's code and words, [`Error::TooManyStreams`],
    /// [`Error::GoingAway`], [`Error::TargetTooLong`], [`Error::Closed`], [`Error::Reset`].
    pub async fn open(&self, header: OpenHeader) -> Result<Stream, Error> {
        self.established().await?;
        let id = self.shared.with_urgently(|state| {
            let id = state.conn.open(&header, now())?;
            state.add_user();
            Ok::<_, Error>(id)
        })?;
        let stream = Stream::new(Arc::clone(&self.shared), id);
        poll_fn(|cx| {
            self.shared.with(|state| match state.conn.poll_open(id) {
                Some(answer) => Poll::Ready(answer),
                None => {
                    state.wait_readable(id, cx);
                    Poll::Pending
                }
            })
        })
        .await?;
        Ok(stream)
    }

    /// Waits for the peer's hello.
    ///
    /// # Errors
    /// [`Error::Closed`] if the tunnel fails before.
    pub async fn established(&self) -> Result<(), Error> {
        let status = self.wait(|s| s.established || s.failed.is_some()).await;
        match status.failed {
            Some(reason) => Err(Error::Closed(reason)),
            None => Ok(()),
        }
    }

    /// Drains the tunnel: no new streams in either direction, the present ones go on, and after
    /// the last one the tunnel closes with [`CloseReason::Drained`].
    pub fn go_away(&self) {
        self.shared.with_urgently(|state| state.conn.go_away(CloseCode::NORMAL));
    }

    /// Waits until the peer drains, or the tunnel has failed.
    pub async fn peer_going_away(&self) {
        self.wait(|s| s.peer_going_away || s.failed.is_some()).await;
    }

    /// Whether [`open`](Self::open) can succeed: the tunnel is neither closed nor draining.
    pub fn is_open(&self) -> bool {
        self.shared.with(|state| {
            let conn = &state.conn;
            conn.close_reason().is_none() && !conn.is_going_away() && !conn.is_peer_going_away()
        })
    }

    /// Closes the tunnel at once. Streams fail, and what they have queued is lost; see
    /// [`go_away`](Self::go_away) for an end in peace.
    pub fn close(&self, code: CloseCode) {
        self.shared.with_urgently(|state| state.conn.close(code, ""));
    }

    /// Waits until the driver has ended: the peer was told and the transport is shut down.
    pub async fn closed(&self) -> CloseReason {
        self.wait(|s| s.done).await.failed.unwrap_or(CloseReason::Dropped)
    }

    /// Current figures.
    pub fn stats(&self) -> Stats {
        self.shared.with(|state| state.conn.stats())
    }

    async fn wait(&self, until: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.shared.status();
        match status.wait_for(until).await {
            Ok(status) => status.clone(),
            // The sender lives in what we hold, so this does not happen.
            Err(_) => Status { failed: Some(CloseReason::Dropped), ..Status::default() },
        }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.shared.with(|state| state.add_user());
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        remove_user(&self.shared);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The streams that the peer opens. Dropping it refuses them all from then on.
pub struct Incoming {
    shared: Arc<Shared>,
}

impl Incoming {
    /// The next stream of the peer; `None` once there can be no more, because the tunnel is
    /// closed or draining.
    pub async fn next(&mut self) -> Option<PendingStream> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), by polling.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<PendingStream>> {
        let found = self.shared.with(|state| {
            if let Some((id, header)) = state.conn.next_incoming() {
                state.add_user();
                return Poll::Ready(Some((id, header)));
            }
            if state.conn.close_reason().is_some() || state.conn.is_going_away() {
                return Poll::Ready(None);
            }
            state.wait_incoming(cx);
            Poll::Pending
        });
        found.map(|found| {
            let (id, header) = found?;
            Some(PendingStream { stream: Stream::new(Arc::clone(&self.shared), id), header })
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.with(|state| state.conn.stop_accepting());
        remove_user(&self.shared);
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

/// A stream that the peer opened and that waits for a decision. Dropping it refuses it with
/// [`RefuseCode::REFUSED`].
#[derive(Debug)]
pub struct PendingStream {
    stream: Stream,
    header: OpenHeader,
}

impl PendingStream {
    /// What the peer says about the stream.
    pub fn header(&self) -> &OpenHeader {
        &self.header
    }

    /// Accepts the stream.
    ///
    /// # Errors
    /// [`Error::Reset`] if the peer gave up, [`Error::Closed`].
    pub fn accept(self) -> Result<Stream, Error> {
        let id = self.stream.id();
        self.stream.shared().with(|state| state.conn.accept(id))?;
        Ok(self.stream)
    }

    /// Refuses the stream; the first 255 bytes of `reason` reach the opener.
    pub fn refuse(self, code: RefuseCode, reason: &str) {
        let id = self.stream.id();
        self.stream.shared().with(|state| state.conn.refuse(id, code, reason));
    }
}

pub(crate) fn remove_user(shared: &Shared) {
    shared.with(|state| state.remove_user());
}
