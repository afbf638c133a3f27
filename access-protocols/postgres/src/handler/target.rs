//! The way to a database: its addresses in turn, TLS, who connects, until it is ready.

use std::io;
use std::sync::Arc;

use access_core::credentials::TargetCertificate;
use access_core::reach::{BoxedStream, Connected, Place, ReachError};
use access_core::{Login, Permit};
use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::Parts;
use crate::ahead::Ahead;
use crate::database::{Database, TargetAuth};
use crate::machine::{Asked, Back, BackError, Secret, Welcome};
use crate::tls::TargetTls;
use crate::users::USUAL_DATABASE;
use crate::wire::{CancelRequest, Failure, encode, sqlstate};

/// The most that may be missing of a message to be waited for when the permit ends in the middle of
/// it, and the most that is read of the connection for that: TLS adds to it.
pub(super) const MAX_MISSING: usize = 1024 * 1024;
const REST: usize = MAX_MISSING + MAX_MISSING / 16;

/// A session with a database, ready for its first query.
pub(super) struct Target {
    pub(super) stream: BoxedStream,
    /// What it has sent beyond its ReadyForQuery.
    pub(super) rest: BytesMut,
    pub(super) welcome: Welcome,
    pub(super) stop: StopLine,
}

/// The way back to the server of a session, to have its query cancelled.
#[derive(Clone)]
pub(super) struct StopLine {
    pub(super) place: Option<Arc<dyn Place>>,
    secure: Option<Secure>,
    key: Option<CancelRequest>,
}

/// TLS to one host.
#[derive(Clone)]
struct Secure {
    tls: TargetTls,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Why a database is not ready: for the user, and for the log.
pub(super) struct NotReady {
    pub(super) failure: Failure,
    pub(super) why: String,
    /// Another address may do better.
    elsewhere: bool,
    /// Every session would come to the same: what is wrong is between the database and the cluster.
    amiss: bool,
}

impl NotReady {
    fn new(failure: Failure, why: impl ToString, elsewhere: bool) -> Self {
        Self { failure, why: why.to_string(), elsewhere, amiss: false }
    }
}

/// Who comes to a database.
#[derive(Clone, Copy)]
pub(super) enum Comer<'a> {
    /// A client, with its session.
    Client(&'a Asked),
    /// The admin user, before a client.
    Admin(&'a Login),
}

impl Comer<'_> {
    /// What the server is asked for.
    fn startup(self, database: &Database, read_only: bool) -> Bytes {
        match self {
            Self::Client(asked) => asked.for_server(read_only),
            Self::Admin(name) => admin_startup(database, name),
        }
    }
}

/// The admin user's settings are the session's own, whatever the database says of them: what a
/// name means, and how long anything may take.
fn admin_startup(database: &Database, name: &Login) -> Bytes {
    let to = database.admin_database.as_deref().unwrap_or(USUAL_DATABASE);
    let parameters = [
        ("user", name.as_str()),
        ("database", to),
        ("application_name", "access"),
        ("client_encoding", "UTF8"),
        ("search_path", "pg_catalog"),
        ("lock_timeout", "5s"),
        ("statement_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "20s"),
    ];
    encode::startup(&parameters.map(|(name, value)| (name.to_owned(), value.to_owned())))
}

/// Connects to the first address of the permit's target at which a session can be had.
pub(super) async fn connect(
    parts: &Parts,
    permit: &Permit,
    database: &Database,
    comer: Comer<'_>,
) -> Result<Target, NotReady> {
    let connected = connect_in_turn(parts, permit, database, comer).await;
    if let Some(observer) = &parts.observer {
        match &connected {
            Ok(_) => observer.lets_in(&database.resource.id),
            Err(err) if err.amiss => {
                observer.turns_away(&database.resource.id, &err.failure.message);
            }
            Err(_) => {}
        }
    }
    connected
}

async fn connect_in_turn(
    parts: &Parts,
    permit: &Permit,
    database: &Database,
    comer: Comer<'_>,
) -> Result<Target, NotReady> {
    let read_only = matches!(comer, Comer::Client(_)) && permit.grant().database.read_only;
    let startup = comer.startup(database, read_only);
    let until = Instant::now() + parts.options.connect_deadline;
    let name = &database.resource.id.name;
    let mut proof = None;
    let mut skip = 0;
    loop {
        let connected = timeout_at(until, parts.reach.connect(permit, skip));
        let Connected { mut stream, place, next } = match connected.await {
            Ok(Ok(connected)) => connected,
            Ok(Err(err)) => return Err(unreachable(name.as_str(), &err)),
            Err(_) => return Err(too_late(name.as_str())),
        };
        let proof = match &mut proof {
            Some(proof) => proof,
            none => none.insert(Proof::of(parts, permit, database, comer).await?),
        };
        stream.allow_rest(REST);
        let share = match next {
            Some(_) => until.min(Instant::now() + parts.options.address_deadline),
            None => until,
        };
        let host = place.as_ref().map_or("", |place| place.host()).to_owned();
        let stream = Box::new(stream);
        let begun = begin(stream, &host, place, database, startup.clone(), read_only, proof);
        let begun = match timeout_at(share, begun).await {
            Ok(begun) => begun,
            Err(_) => Err(too_late(name.as_str())),
        };
        match (begun, next) {
            (Err(err), Some(next)) if err.elsewhere && Instant::now() < until => {
                tracing::debug!(why = err.why, "trying the next address of a database");
                skip = next;
            }
            (done, _) => return done,
        }
    }
}

/// Lets the admin user in again at the very server where it was before, to undo there what the
/// permit had begun.
pub(super) async fn return_to(
    place: Arc<dyn Place>,
    database: &Database,
    name: &Login,
    proof: &Proof,
) -> Result<Target, NotReady> {
    let dialled = place.dial_to_stop().await;
    let stream = dialled.map_err(|err| unreachable(database.resource.id.name.as_str(), &err))?;
    let host = place.host().to_owned();
    begin(stream, &host, Some(place), database, admin_startup(database, name), false, proof).await
}

fn unreachable(name: &str, err: &ReachError) -> NotReady {
    let failure = Failure::fatal(
        sqlstate::UNABLE_TO_CONNECT,
        format!("the database {name} cannot be reached: {err}"),
    );
    NotReady::new(failure, err, false)
}

fn too_late(name: &str) -> NotReady {
    let failure = Failure::fatal(
        sqlstate::UNABLE_TO_CONNECT,
        format!("the database {name} does not answer in time"),
    );
    NotReady::new(failure, "no answer in time", true)
}

/// What the database is shown.
#[derive(Clone)]
pub(super) struct Proof {
    pub(super) certificate: Option<TargetCertificate>,
    password: Option<Secret>,
}

impl Proof {
    pub(super) async fn of(
        parts: &Parts,
        permit: &Permit,
        database: &Database,
        comer: Comer<'_>,
    ) -> Result<Self, NotReady> {
        let unavailable = |why: String| {
            let message = format!("cannot log in at the database: {why}");
            NotReady::new(Failure::fatal(sqlstate::CONNECTION_FAILURE, message), why, false)
        };
        let mut proof = Self { certificate: None, password: None };
        match &database.auth {
            TargetAuth::Nothing => {}
            TargetAuth::Certificate => {
                let source = parts
                    .credentials
                    .as_ref()
                    .ok_or_else(|| unavailable("nothing here makes certificates for it".into()))?;
                let made = match comer {
                    Comer::Client(_) => source.client_certificate(permit).await,
                    Comer::Admin(_) => source.admin_certificate(permit).await,
                };
                proof.certificate = Some(made.map_err(|err| unavailable(err.to_string()))?);
            }
            TargetAuth::Password(source) => {
                // The file's name is the administrator's.
                proof.password = Some(source().map_err(|err| NotReady {
                    why: err.to_string(),
                    ..unavailable("its password cannot be read".into())
                })?);
            }
        }
        Ok(proof)
    }
}

async fn begin(
    stream: BoxedStream,
    host: &str,
    place: Option<Arc<dyn Place>>,
    database: &Database,
    startup: Bytes,
    read_only: bool,
    proof: &Proof,
) -> Result<Target, NotReady> {
    let secure = database.tls.as_ref();
    let secure = secure.map(|tls| Secure::new(tls, host, proof.certificate.as_ref()));
    let secure = secure.transpose().map_err(|err| tls_failed(host, &err))?;
    let mut stream = match &secure {
        Some(secure) => secure.wrap(stream).await.map_err(|err| tls_failed(host, &err))?,
        None => stream,
    };
    let mut back = Back::new(proof.password.clone(), read_only);
    let mut buf = BytesMut::new();
    let mut send = vec![startup];
    loop {
        let io = exchange(&mut stream, &mut send, &mut buf).await;
        let read = io.map_err(|err| broke_off(&err, proof.certificate.is_some()))?;
        match back.server(&mut buf, &mut send).map_err(refused)? {
            true => break,
            false if read == 0 => return Err(broke_off(&ended(), proof.certificate.is_some())),
            false => {}
        }
    }
    let welcome = back.welcome();
    let key = welcome.key.as_ref().map(|(id, secret)| CancelRequest::new(*id, secret.to_vec()));
    Ok(Target { stream, rest: buf, welcome, stop: StopLine { place, secure, key } })
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the database closed the connection")
}

async fn exchange(
    stream: &mut BoxedStream,
    send: &mut Vec<Bytes>,
    buf: &mut BytesMut,
) -> io::Result<usize> {
    for piece in send.drain(..) {
        stream.write_all(&piece).await?;
    }
    stream.flush().await?;
    stream.read_buf(buf).await
}

/// Makes TLS with a database and ends it, without a certificate.
pub(crate) async fn greet_secured(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    tls: &TargetTls,
) -> Result<(), String> {
    let greeted = async {
        let mut stream = Secure::new(tls, host, None)?.wrap(stream).await?;
        // The database has proved itself; how it takes the end does not matter.
        drop(stream.shutdown().await);
        Ok(())
    };
    greeted.await.map_err(|err| tls_failed(host, &err).failure.message)
}

/// Asks a database for TLS that nobody wants, to see whether it answers as one.
pub(crate) async fn greet_in_clear(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<(), String> {
    let greeted = async {
        stream.write_all(&encode::ssl_request()).await?;
        stream.flush().await?;
        match stream.read_u8().await? {
            b'S' | b'N' => Ok(()),
            _ => Err(io::Error::other(NO_POSTGRES)),
        }
    };
    greeted.await.map_err(|err| err.to_string())
}

const NO_POSTGRES: &str = "it does not speak PostgreSQL's protocol";

impl Secure {
    fn new(
        tls: &TargetTls,
        host: &str,
        certificate: Option<&TargetCertificate>,
    ) -> io::Result<Self> {
        let name = tls.name_for(host).map_err(io::Error::other)?;
        let config = tls.config(certificate).map_err(io::Error::other)?;
        Ok(Self { tls: tls.clone(), config, name })
    }

    async fn wrap<S>(&self, mut stream: S) -> io::Result<BoxedStream>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        if !self.tls.is_direct() {
            stream.write_all(&encode::ssl_request()).await?;
            stream.flush().await?;
            // One byte: nothing that is sent in clear is taken for what comes within TLS.
            match stream.read_u8().await? {
                b'S' => {}
                b'N' => return Err(io::Error::other("it does not speak TLS")),
                b'E' => {
                    return Err(io::Error::other("it answers the request for TLS with an error"));
                }
                _ => return Err(io::Error::other(NO_POSTGRES)),
            }
        }
        let connector = TlsConnector::from(Arc::clone(&self.config));
        Ok(Box::new(connector.connect(self.name.clone(), Ahead::new(stream)).await?))
    }
}

impl StopLine {
    /// Asks the server to cancel what the session is doing.
    pub(super) async fn cancel(&self) -> io::Result<()> {
        let (Some(place), Some(key)) = (&self.place, &self.key) else {
            return Err(io::Error::other("the database gave no way to cancel a query"));
        };
        match tell(place.as_ref(), self.secure.as_ref(), key).await {
            // The session's certificate may be over by now, and servers take such a request from
            // whoever has the key.
            Err(err) if let Some(secure) = &self.secure => {
                tracing::debug!(%err, "asking without a certificate to cancel a query");
                let config = secure.tls.config(None).map_err(io::Error::other)?;
                tell(place.as_ref(), Some(&Secure { config, ..secure.clone() }), key).await
            }
            done => done,
        }
    }
}

/// Sends a server the key of a session that is to be stopped.
async fn tell(place: &dyn Place, secure: Option<&Secure>, key: &CancelRequest) -> io::Result<()> {
    let stream = place.dial_to_stop().await.map_err(io::Error::other)?;
    let mut stream = match secure {
        Some(secure) => secure.wrap(stream).await?,
        None => stream,
    };
    stream.write_all(&key.encode()).await?;
    stream.flush().await?;
    // The server acts on it, and then closes: who waits for that knows that it was done. A server
    // that refuses the certificate says so here.
    let mut nothing = [0; 16];
    loop {
        match stream.read(&mut nothing).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Servers leave without TLS's leave-taking.
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(err) => return Err(err),
        }
    }
}

/// What the TLS library says, for people.
fn tls_failed(host: &str, err: &io::Error) -> NotReady {
    use rustls::Error as Tls;
    let inner = err.get_ref().and_then(|inner| inner.downcast_ref::<Tls>());
    let message = match inner {
        Some(Tls::InvalidCertificate(cert)) => match cert {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the database's certificate is not for {host}")
            }
            CertificateError::UnknownIssuer => {
                "the database's certificate is not by an authority that is trusted for it".into()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the database's certificate has expired".into()
            }
            other => format!("the database's certificate cannot be used: {other}"),
        },
        Some(Tls::AlertReceived(alert)) => return cert_refused(*alert),
        _ => format!("no TLS with the database: {err}"),
    };
    let elsewhere = inner.is_none();
    let failure = Failure::fatal(sqlstate::CONNECTION_FAILURE, message);
    NotReady { amiss: !elsewhere, ..NotReady::new(failure, err, elsewhere) }
}

fn cert_refused(alert: AlertDescription) -> NotReady {
    let failure = Failure::fatal(
        sqlstate::CONNECTION_FAILURE,
        "the database refuses the cluster's certificate for its accounts",
    )
    .hint(
        "its administrator must have it trust the cluster's authority: \
         accessctl auth export --type=db-client",
    );
    NotReady { amiss: true, ..NotReady::new(failure, format!("TLS alert {alert:?}"), false) }
}

/// In TLS 1.3 a server refuses a client's certificate after the handshake.
fn broke_off(err: &io::Error, certificate: bool) -> NotReady {
    let inner = err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) if certificate => cert_refused(*alert),
        _ => {
            let message = format!("the connection to the database broke off: {err}");
            NotReady::new(Failure::fatal(sqlstate::CONNECTION_FAILURE, message), err, true)
        }
    }
}

fn refused(err: BackError) -> NotReady {
    let why = err.to_string();
    match err {
        BackError::Reported(reported) => {
            // Too many connections, starting up, shutting down: another node may do.
            let elsewhere = matches!(reported.code.as_str(), "53300" | "57P03" | "57P01");
            let failure = Failure {
                fatal: true,
                code: reported.code,
                message: reported.message,
                detail: reported.detail,
                hint: reported.hint,
            };
            NotReady::new(failure, why, elsewhere)
        }
        other => {
            let failure = Failure::fatal(sqlstate::CONNECTION_FAILURE, other.to_string());
            NotReady::new(failure, why, false)
        }
    }
}
