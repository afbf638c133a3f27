//! The life of one SSH connection, whatever is served over it.
//!
//! ```text
//!  banner, key exchange ─► authentication ─► serving ─► over
//!         └── auth_deadline ──┘  │             │  ├─ the client left, or is silent for too long
//!                                │             │  └─ its time is over: sessions are told, then
//!                                └─ refused    │     the client, then the transport is cut
//!                                              └─ dropped: the transport is cut
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access_core::ids::TraceId;
use access_core::reach::BoxedStream;
use futures::future::BoxFuture;
use russh::Disconnect;
use russh::server::{Config, Handle, Handler, run_stream};
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use crate::options::SshOptions;
use crate::wire::{CutOnDrop, Link, Wire};

/// How long sessions have to tell their users that they end, and to write that down.
const FAREWELL: Duration = Duration::from_millis(300);
/// How long a client has to leave by itself when its sessions are over. OpenSSH drops what it has
/// not shown yet when it is disconnected, so that it would not show why.
const LEAVING: Duration = Duration::from_millis(150);
/// How long the client has to take the disconnect message.
const PARTING: Duration = Duration::from_millis(200);
/// How long the events of ended sessions are waited for.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Why a connection's sessions must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// For `session.end`.
    pub(crate) reason: &'static str,
    /// For the user.
    pub(crate) text: String,
}

/// Completes when a connection must end.
pub(crate) type EndOfTime = BoxFuture<'static, Ended>;

/// What the parts of a connection share.
pub(crate) struct Connection {
    pub(crate) link: Arc<Link>,
    pub(crate) tasks: TaskTracker,
    pub(crate) client_addr: Option<SocketAddr>,
    pub(crate) trace_id: TraceId,
    ended: watch::Sender<Option<Ended>>,
    withdrawn: watch::Sender<Option<Ended>>,
}

impl Connection {
    pub(crate) fn new(client_addr: Option<SocketAddr>, trace_id: TraceId) -> Arc<Self> {
        Arc::new(Self {
            link: Arc::new(Link::new()),
            tasks: TaskTracker::new(),
            client_addr,
            trace_id,
            ended: watch::Sender::new(None),
            withdrawn: watch::Sender::new(None),
        })
    }

    /// Completes when the connection is over, with the reason for it.
    pub(crate) async fn over(&self) -> Ended {
        let mut ended = self.ended.subscribe();
        tokio::select! {
            biased;
            Ok(found) = ended.wait_for(Option::is_some) => {
                if let Some(ended) = found.clone() {
                    return ended;
                }
            }
            () = self.link.closed() => {}
        }
        Ended { reason: "client", text: String::new() }
    }

    /// Asks for the connection's end, which whoever serves it decides over.
    pub(crate) fn withdraw(&self, ended: Ended) {
        self.withdrawn.send_replace(Some(ended));
    }

    /// Completes when its end was asked for.
    pub(crate) async fn withdrawn(&self) -> Ended {
        let mut withdrawn = self.withdrawn.subscribe();
        let found = withdrawn.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        match found {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    fn end(&self, ended: Ended) {
        self.ended.send_replace(Some(ended));
    }
}

/// Serves a connection to its end. Dropping the future ends it too.
pub(crate) async fn drive<H>(
    connection: Arc<Connection>,
    stream: BoxedStream,
    config: Arc<Config>,
    handler: H,
    authenticated: oneshot::Receiver<EndOfTime>,
    options: &SshOptions,
) where
    H: Handler<Error = russh::Error> + Send + 'static,
{
    let cut = CutOnDrop(Arc::clone(&connection.link));
    let aborted = AbortReason { connection: Arc::clone(&connection), done: false };
    let wire = Wire::new(stream, Arc::clone(&connection.link));
    serve(&connection, wire, config, handler, authenticated, options).await;
    aborted.done();
    drop(cut);
    connection.tasks.close();
    let _ = tokio::time::timeout(LAST_WORDS, connection.tasks.wait()).await;
}

/// Tells sessions, when the connection's future is dropped, that it was not the client who left.
struct AbortReason {
    connection: Arc<Connection>,
    done: bool,
}

impl AbortReason {
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for AbortReason {
    fn drop(&mut self) {
        if !self.done {
            self.connection
                .end(Ended { reason: "agent stopped", text: "the server is stopping".into() });
        }
    }
}

async fn serve<H>(
    connection: &Connection,
    wire: Wire,
    config: Arc<Config>,
    handler: H,
    authenticated: oneshot::Receiver<EndOfTime>,
    options: &SshOptions,
) where
    H: Handler<Error = russh::Error> + Send + 'static,
{
    let deadline = tokio::time::sleep(options.auth_deadline);
    tokio::pin!(deadline);
    let running = tokio::select! {
        started = run_stream(config, wire, handler) => match started {
            Ok(running) => running,
            Err(err) => {
                tracing::debug!(%err, "no SSH connection came about");
                return;
            }
        },
        () = &mut deadline => return,
    };
    let handle = running.handle();
    tokio::pin!(running);
    let end_of_time = tokio::select! {
        ended = &mut running => return log_end(ended),
        found = authenticated => match found {
            Ok(end_of_time) => end_of_time,
            // The handler is gone, so the connection is as good as over.
            Err(_) => return log_end(running.await),
        },
        () = &mut deadline => {
            disconnect(&handle, "authentication took too long").await;
            let _ = tokio::time::timeout(PARTING, &mut running).await;
            return;
        }
    };
    let mut probes = tokio::time::interval(options.keepalive_interval);
    tokio::pin!(end_of_time);
    loop {
        tokio::select! {
            ended = &mut running => return log_end(ended),
            ended = &mut end_of_time => {
                let text = ended.text.clone();
                connection.end(ended);
                connection.tasks.close();
                let _ = tokio::time::timeout(FAREWELL, connection.tasks.wait()).await;
                if tokio::time::timeout(LEAVING, &mut running).await.is_ok() {
                    return;
                }
                disconnect(&handle, &text).await;
                let _ = tokio::time::timeout(PARTING, &mut running).await;
                return;
            }
            _ = probes.tick() => {
                if connection.link.silence() > options.dead_after() {
                    connection.end(Ended { reason: "client is gone", text: String::new() });
                    return;
                }
            }
        }
    }
}

async fn disconnect(handle: &Handle, text: &str) {
    let sent = handle.disconnect(Disconnect::ByApplication, text.to_owned(), String::new());
    // Not sent when the client takes nothing; it is cut off then.
    let _ = tokio::time::timeout(PARTING / 2, sent).await;
}

fn log_end(ended: Result<(), russh::Error>) {
    if let Err(err) = ended {
        tracing::debug!(%err, "SSH connection broke off");
    }
}
