//! Connections: how one is made, what it is told first, and the pool of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_backend::Error;
use deadpool::managed::{
    Manager as PoolManager, Metrics, Object, Pool as Managed, PoolError, RecycleError,
    RecycleResult, Timeouts,
};
use futures::StreamExt;
use futures::future;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::config::SslMode as WireMode;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, SimpleQueryMessage, Statement};

use crate::Engine;
use crate::conn_string::{ConnString, SslMode};
use crate::errors::{Failure, judge, unavailable};
use crate::tls::Connector;

/// The first pause between attempts, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long the end of a statement is waited for beyond the server's own bound for it.
pub(crate) const STATEMENT_PATIENCE: Duration = Duration::from_secs(35);

/// What every server answers with who it is.
pub(crate) const BANNER: &str = "SELECT version()";

/// One connection.
pub(crate) struct Conn {
    pub(crate) client: Client,
    pub(crate) session: Session,
    statements: Mutex<HashMap<&'static str, Statement>>,
    /// Set while a transaction is open that takes more than one round trip.
    open: AtomicBool,
}

/// What names a session to the other sessions of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) started: String,
}

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) engine: Engine,
    pub(crate) conn: ConnString,
    connector: Connector,
}

impl Dialer {
    pub(crate) fn new(engine: Engine, conn: ConnString) -> Self {
        let connector = Connector::new(conn.ssl_mode, conn.tls.clone());
        Self { engine, conn, connector }
    }

    /// A connection that has been told how to behave. What the server sends unasked wakes `unasked`.
    pub(crate) async fn dial(&self, unasked: Option<Arc<Notify>>) -> Result<Conn, Failure> {
        let hosts = self.conn.config.get_hosts();
        let sockets = !hosts.is_empty()
            && hosts.iter().all(|host| matches!(host, tokio_postgres::config::Host::Unix(_)));
        let attempts: &[WireMode] = match self.conn.ssl_mode {
            _ if sockets => &[WireMode::Disable],
            SslMode::Disable => &[WireMode::Disable],
            SslMode::Allow => &[WireMode::Disable, WireMode::Require],
            SslMode::Prefer => &[WireMode::Prefer, WireMode::Disable],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[WireMode::Require],
        };
        let mut first = None;
        for mode in attempts {
            match self.attempt(*mode, unasked.clone()).await {
                Ok(conn) => return Ok(conn),
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        Err(first.unwrap_or_else(|| Failure::Final(unavailable("no way to connect"))))
    }

    async fn attempt(&self, mode: WireMode, unasked: Option<Arc<Notify>>) -> Result<Conn, Failure> {
        let mut config = self.conn.config.clone();
        config.ssl_mode(mode);
        let judge = |error: tokio_postgres::Error| judge(&self.conn, &error);
        // Of a host that answers the first packet and no other.
        let bound = config.get_connect_timeout().copied().unwrap_or(LONGEST_PAUSE) * 2;
        let connect = async {
            if mode == WireMode::Disable {
                let (client, connection) = config.connect(NoTls).await.map_err(judge)?;
                drive(connection, unasked);
                return Ok(client);
            }
            let tls = self.connector.make().map_err(Failure::Final)?;
            let (client, connection) = config.connect(tls).await.map_err(judge)?;
            drive(connection, unasked);
            Ok(client)
        };
        let late = || Failure::Lost(unavailable(&format!("{} does not answer", self.conn)));
        let client = tokio::time::timeout(bound, connect).await.map_err(|_| late())??;
        let greeting = async {
            let banner = client.simple_query(BANNER).await.map_err(judge)?;
            self.check_engine(&banner)?;
            let told = client.simple_query(self.engine.statements().session);
            self.session(&told.await.map_err(judge)?)
        };
        let session = tokio::time::timeout(bound, greeting).await.map_err(|_| late())??;
        Ok(Conn { client, session, statements: Mutex::default(), open: AtomicBool::new(false) })
    }

    /// Whether the server is what it is taken for.
    fn check_engine(&self, answers: &[SimpleQueryMessage]) -> Result<(), Failure> {
        let [banner] = columns(answers);
        let reason = match Engine::of_banner(banner) {
            Some(engine) if engine == self.engine => match engine.too_old(banner) {
                None => return Ok(()),
                Some(least) => format!("{} is {banner}; {engine} {least} is the least", self.conn),
            },
            Some(other) => format!("{} is {other}; write type: {other}", self.conn),
            None => {
                let banner: String = banner.chars().take(80).collect();
                format!("{} is neither postgres nor cockroachdb, but {banner:?}", self.conn)
            }
        };
        Err(Failure::Final(Error::Setting { setting: "storage.type", reason }))
    }

    fn session(&self, answers: &[SimpleQueryMessage]) -> Result<Session, Failure> {
        let [id, started, replica] = columns(answers);
        if replica == "true" {
            let reason = format!(
                "{} is a read-only replica; name the primary, or all hosts with \
                 target_session_attrs=read-write",
                self.conn
            );
            return Err(Failure::Final(Error::Setting { setting: "storage.conn_string", reason }));
        }
        Ok(Session { id: id.to_owned(), started: started.to_owned() })
    }
}

/// The first columns of the last row.
fn columns<const N: usize>(answers: &[SimpleQueryMessage]) -> [&str; N] {
    let row = answers.iter().rev().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    std::array::from_fn(|at| row.and_then(|row| row.try_get(at).ok().flatten()).unwrap_or_default())
}

/// Runs the connection until its client is dropped or it breaks.
fn drive<S, T>(mut connection: Connection<S, T>, unasked: Option<Arc<Notify>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notification(_)) => {
                    if let Some(wake) = &unasked {
                        wake.notify_one();
                    }
                }
                Ok(AsyncMessage::Notice(notice)) => {
                    tracing::debug!(notice = notice.message(), "the database remarks");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "a connection to the database ended");
                    break;
                }
            }
        }
        // Whoever waits for news learns from the closed client that none will come.
        if let Some(wake) = &unasked {
            wake.notify_one();
        }
    });
}

impl Conn {
    /// The statement, prepared once a connection.
    pub(crate) async fn prepared(
        &self,
        text: &'static str,
    ) -> Result<Statement, tokio_postgres::Error> {
        let known = self.statements().get(text).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(text).await?;
        self.statements().insert(text, statement.clone());
        Ok(statement)
    }

    /// Marks that a transaction is open; a connection that is given back so is not used again.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolManager for Dialer {
    type Type = Conn;
    type Error = Failure;

    async fn create(&self) -> Result<Conn, Failure> {
        self.dial(None).await
    }

    async fn recycle(&self, conn: &mut Conn, metrics: &Metrics) -> RecycleResult<Failure> {
        let pooling = self.conn.pooling;
        let usable = !conn.client.is_closed()
            && !conn.open.load(Ordering::SeqCst)
            && metrics.age() < pooling.max_lifetime
            && metrics.last_used() < pooling.max_idle;
        if usable { Ok(()) } else { Err(RecycleError::message("its time is over")) }
    }
}

/// The connections of a store.
#[derive(Clone)]
pub(crate) struct Pool {
    managed: Managed<Dialer>,
    patience: Duration,
}

impl Pool {
    pub(crate) fn new(dialer: Dialer, patience: Duration) -> Result<Self, Error> {
        let size = dialer.conn.pooling.max_conns;
        let managed = Managed::builder(dialer)
            .max_size(size)
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| unavailable(&error.to_string()))?;
        Ok(Self { managed, patience })
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        self.managed.manager()
    }

    pub(crate) fn judge(&self, error: &tokio_postgres::Error) -> Failure {
        judge(&self.dialer().conn, error)
    }

    /// When an operation that begins now gives up.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// A connection; waits for one, and for a database that is away, until `deadline`.
    pub(crate) async fn get(&self, deadline: Instant) -> Result<Object<Dialer>, Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeouts = Timeouts { wait: Some(left), create: None, recycle: None };
            let error = match self.managed.timeout_get(&timeouts).await {
                Ok(conn) => return Ok(conn),
                Err(PoolError::Backend(Failure::Final(error))) => return Err(error),
                Err(PoolError::Backend(failure)) => failure.into_error(),
                Err(PoolError::Closed) => return Err(Error::Closed),
                Err(PoolError::Timeout(_)) => {
                    let most = self.managed.status().max_size;
                    return Err(unavailable(&format!(
                        "all {most} connections were in use for {} s; raise pool_max_conns in \
                         storage.conn_string",
                        self.patience.as_secs()
                    )));
                }
                Err(PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
                    return Err(unavailable("the pool of connections is not set up"));
                }
            };
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Operations that wait for a connection.
    pub(crate) fn waiting(&self) -> usize {
        self.managed.status().waiting
    }

    pub(crate) fn most(&self) -> usize {
        self.managed.status().max_size
    }

    pub(crate) fn close(&self) {
        self.managed.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.managed.is_closed()
    }
}

/// Between a half and the whole of it.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// Bounds the wait for an answer: a connection may be dead without a sign.
pub(crate) async fn bounded<T>(
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, BoundedError> {
    match tokio::time::timeout(STATEMENT_PATIENCE, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(BoundedError::Server(error)),
        Err(_) => Err(BoundedError::Silent),
    }
}

/// Why there is no answer.
pub(crate) enum BoundedError {
    Server(tokio_postgres::Error),
    Silent,
}

impl BoundedError {
    pub(crate) fn judge(&self, pool: &Pool) -> Failure {
        match self {
            Self::Server(error) => pool.judge(error),
            Self::Silent => Failure::Lost(unavailable(&format!(
                "{} took longer than {} s to answer",
                pool.dialer().conn,
                STATEMENT_PATIENCE.as_secs()
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
