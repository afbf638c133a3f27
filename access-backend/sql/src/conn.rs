//! One connection: its prepared statements, and its end when the server falls silent.
//!
//! A statement has no timer of its own: it would be set and taken back with each. Whoever waits for an answer counts
//! that, and the task that drives the connection looks now and then whether the count has moved.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, future};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::{AsyncMessage, Client, Connection, Statement};

use crate::errors::{Failure, unavailable};
use crate::pool::Dialer;

/// How long an answer is waited for at least, beyond the server's own bound for a statement: a connection may be dead
/// without a sign.
const PATIENCE: Duration = Duration::from_secs(35);
/// How often the driver looks in that time, and once more.
const LOOKS: u32 = 7;

/// One connection.
pub(crate) struct Conn {
    pub(crate) client: Client,
    pub(crate) session: Session,
    /// By their texts: to compare the lengths of some thirty costs less than to hash one.
    statements: Mutex<Vec<(&'static str, Statement)>>,
    /// Set while a transaction is open that takes more than one round trip.
    open: AtomicBool,
    asked: Arc<Asked>,
}

/// What names a session to the other sessions of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) started: String,
}

impl Conn {
    pub(crate) fn new(client: Client, session: Session, asked: Arc<Asked>) -> Self {
        let (statements, open) = (Mutex::default(), AtomicBool::new(false));
        Self { client, session, statements, open, asked }
    }

    /// The statement, prepared once a connection.
    pub(crate) async fn prepared(
        &self,
        text: &'static str,
    ) -> Result<Statement, tokio_postgres::Error> {
        let known = |(_, statement): &(_, Statement)| statement.clone();
        let found = self.statements().iter().find(|(known, _)| *known == text).map(known);
        if let Some(statement) = found {
            return Ok(statement);
        }
        let statement = self.client.prepare(text).await?;
        self.statements().push((text, statement.clone()));
        Ok(statement)
    }

    /// Waits for the answer of `work`, until the server has been silent for too long: then the connection is cut.
    pub(crate) async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, BoundedError> {
        let _asking = self.asked.ask();
        work.await.map_err(|error| match self.asked.silent.load(Ordering::SeqCst) {
            true => BoundedError::Silent,
            false => BoundedError::Server(error),
        })
    }

    /// Marks that a transaction is open; a connection that is given back so is not used again.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, Vec<(&'static str, Statement)>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was asked over a connection, and what of it is over.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    begun: AtomicU64,
    ended: AtomicU64,
    /// The server has been silent for too long.
    silent: AtomicBool,
}

/// Counts as asked until it is dropped.
struct Asking<'a>(&'a Asked);

impl Asked {
    fn ask(&self) -> Asking<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Asking(self)
    }

    /// Which question is open.
    fn open(&self) -> Option<(u64, u64)> {
        let (ended, begun) =
            (self.ended.load(Ordering::Relaxed), self.begun.load(Ordering::Relaxed));
        (begun != ended).then_some((begun, ended))
    }

    /// Completes when a question has been open for too long.
    async fn unanswered(&self) {
        let mut looks = interval(PATIENCE / LOOKS);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut seen) = (None, 0);
        while seen < LOOKS {
            looks.tick().await;
            let open = self.open();
            seen = if open.is_some() && open == last { seen + 1 } else { 0 };
            last = open;
        }
        self.silent.store(true, Ordering::SeqCst);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs the connection until its client is dropped, it breaks, or the server falls silent.
pub(crate) fn drive<S, T>(
    mut connection: Connection<S, T>,
    unasked: Option<Arc<Notify>>,
    asked: Arc<Asked>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
        let unanswered = asked.unanswered();
        tokio::pin!(unanswered);
        loop {
            let message = tokio::select! {
                biased;
                message = messages.next() => message,
                () = &mut unanswered => {
                    tracing::warn!("the database does not answer; the connection is cut");
                    break;
                }
            };
            match message {
                Some(Ok(AsyncMessage::Notification(_))) => {
                    if let Some(wake) = &unasked {
                        wake.notify_one();
                    }
                }
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    tracing::debug!(notice = notice.message(), "the database remarks");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "a connection to the database ended");
                    break;
                }
                None => break,
            }
        }
        // Whoever waits for an answer learns that none will come; and whoever waits for news, from the closed client.
        drop(messages);
        if let Some(wake) = &unasked {
            wake.notify_one();
        }
    });
}

/// Why there is no answer.
pub(crate) enum BoundedError {
    Server(tokio_postgres::Error),
    Silent,
}

impl BoundedError {
    pub(crate) fn judge(&self, dialer: &Dialer) -> Failure {
        match self {
            Self::Server(error) => dialer.judge(error),
            Self::Silent => Failure::Lost(unavailable(&format!(
                "{} took longer than {} s to answer",
                dialer.conn,
                PATIENCE.as_secs()
            ))),
        }
    }
}

/// Polls both at once, the first one first: what they send goes out in that order, before either is answered.
pub(crate) async fn in_order<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> (A, B) {
    future::join(first, second).await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;
    use tokio_postgres::{Config, NoTls};

    use super::*;

    /// A connection to a server that lets everybody in, and then does as it is told.
    async fn connect<F>(serve: impl FnOnce(DuplexStream) -> F) -> Conn
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (here, mut there) = tokio::io::duplex(4096);
        let greeting = async move {
            let len = there.read_u32().await.unwrap();
            there.read_exact(&mut vec![0; len as usize - 4]).await.unwrap();
            there.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
            there
        };
        let mut config = Config::new();
        config.user("access");
        let (connected, there) = tokio::join!(config.connect_raw(here, NoTls), greeting);
        let (client, connection) = connected.unwrap();
        let asked = Arc::<Asked>::default();
        drive(connection, None, asked.clone());
        tokio::spawn(serve(there));
        Conn::new(client, Session { id: String::new(), started: String::new() }, asked)
    }

    /// Reads a question, and says nothing or, after a time, that it is done.
    async fn answer(stream: &mut DuplexStream, after: Option<Duration>) {
        assert_eq!(stream.read_u8().await.unwrap(), b'Q');
        let len = stream.read_u32().await.unwrap();
        stream.read_exact(&mut vec![0; len as usize - 4]).await.unwrap();
        let Some(after) = after else { return };
        tokio::time::sleep(after).await;
        stream.write_all(b"C\0\0\0\x08SET\0Z\0\0\0\x05I").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_silent_is_cut_off() {
        let (gone, left) = tokio::sync::oneshot::channel();
        let conn = connect(|mut stream| async move {
            answer(&mut stream, Some(PATIENCE - Duration::from_secs(1))).await;
            answer(&mut stream, None).await;
            // What is left to read is the end.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            gone.send(rest).unwrap();
        })
        .await;
        // One that is slow is waited for, and one of whom nothing is asked may be silent.
        assert!(conn.bounded(conn.client.batch_execute("SET a")).await.is_ok());
        tokio::time::sleep(PATIENCE * 10).await;
        let began = Instant::now();
        let told = conn.bounded(conn.client.batch_execute("SET b")).await;
        assert!(matches!(told, Err(BoundedError::Silent)));
        let waited = began.elapsed();
        assert!(waited >= PATIENCE && waited <= PATIENCE + PATIENCE / LOOKS, "{waited:?}");
        assert!(conn.client.is_closed());
        left.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn many_slow_answers_are_not_one_silence() {
        let conn = connect(|mut stream| async move {
            for _ in 0..5 {
                answer(&mut stream, Some(PATIENCE - Duration::from_secs(1))).await;
            }
        })
        .await;
        for _ in 0..5 {
            assert!(conn.bounded(conn.client.batch_execute("SET a")).await.is_ok());
        }
    }
}
