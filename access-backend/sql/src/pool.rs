//! Connections: how one is made, what it is told first, and the pool of them.

use std::sync::Arc;
use std::time::Duration;

use access_backend::Error;
use deadpool::managed::{
    Manager as PoolManager, Metrics, Object, Pool as Managed, PoolError, QueueMode, RecycleError,
    RecycleResult, Timeouts,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::config::SslMode as WireMode;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::Engine;
use crate::conn::{Asked, Conn, Session, drive};
use crate::conn_string::{ConnString, SslMode};
use crate::errors::{Failure, judge, unavailable};
use crate::tls::Connector;

/// The first pause between attempts, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What every server answers with who it is.
pub(crate) const BANNER: &str = "SELECT version()";

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
        let bound = config.get_connect_timeout().map(|timeout| *timeout * 2);
        let asked = Arc::<Asked>::default();
        let connect = async {
            if mode == WireMode::Disable {
                let (client, connection) = config.connect(NoTls).await.map_err(judge)?;
                drive(connection, unasked, asked.clone());
                return Ok(client);
            }
            let tls = self.connector.make().map_err(Failure::Final)?;
            let (client, connection) = config.connect(tls).await.map_err(judge)?;
            drive(connection, unasked, asked.clone());
            Ok(client)
        };
        let late = || Failure::Lost(unavailable(&format!("{} does not answer", self.conn)));
        let client = within(bound, connect).await.ok_or_else(late)??;
        let greeting = async {
            let banner = client.simple_query(BANNER).await.map_err(judge)?;
            self.check_engine(&banner)?;
            let told = client.simple_query(self.engine.statements().session);
            self.session(&told.await.map_err(judge)?)
        };
        let session = within(bound, greeting).await.ok_or_else(late)??;
        Ok(Conn::new(client, session, asked))
    }

    pub(crate) fn judge(&self, error: &tokio_postgres::Error) -> Failure {
        judge(&self.conn, error)
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
            let setting = self.conn.setting();
            return Err(Failure::Final(Error::Setting { setting, reason }));
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

impl PoolManager for Dialer {
    type Type = Conn;
    type Error = Failure;

    async fn create(&self) -> Result<Conn, Failure> {
        self.dial(None).await
    }

    async fn recycle(&self, conn: &mut Conn, metrics: &Metrics) -> RecycleResult<Failure> {
        let pooling = self.conn.pooling;
        let usable = !conn.client.is_closed()
            && !conn.is_open()
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
            // The one that was used last: what it needs is still in the caches of both machines.
            .queue_mode(QueueMode::Lifo)
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| unavailable(&error.to_string()))?;
        Ok(Self { managed, patience })
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        self.managed.manager()
    }

    pub(crate) fn judge(&self, error: &tokio_postgres::Error) -> Failure {
        self.dialer().judge(error)
    }

    /// When an operation that begins now gives up.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// A connection; waits for one, and for a database that is away, until `deadline`.
    pub(crate) async fn get(&self, deadline: Instant) -> Result<Object<Dialer>, Error> {
        let mut pause = FIRST_PAUSE;
        // One that is free is taken without a timer.
        let mut wait = Duration::ZERO;
        loop {
            let timeouts = Timeouts { wait: Some(wait), create: None, recycle: None };
            let error = match self.managed.timeout_get(&timeouts).await {
                Ok(conn) => return Ok(conn),
                Err(PoolError::Backend(Failure::Final(error))) => return Err(error),
                Err(PoolError::Backend(failure)) => failure.into_error(),
                Err(PoolError::Closed) => return Err(Error::Closed),
                Err(PoolError::Timeout(_)) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if wait.is_zero() && !left.is_zero() {
                        wait = left;
                        continue;
                    }
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
            wait = Duration::ZERO;
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

/// What comes of it in that time; without a bound, at some time.
async fn within<T>(bound: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match bound {
        Some(bound) => tokio::time::timeout(bound, work).await.ok(),
        None => Some(work.await),
    }
}

/// Between a half and the whole of it.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}
