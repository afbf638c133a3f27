//! Ports and sockets of this machine that lead to a database.
//!
//! Without a tunnel a port only copies: the program behind it speaks TLS with the agent itself, and
//! needs the certificate's files. With one, this program does that, and whoever can open the port
//! is the user to the database.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access_client::{ClientError, HostPort, NOBODY, TlsDialer, dial_tcp};
use access_core::time::Validity;
use access_core::tls::{ALPN_POSTGRESQL, ServerTrust};
use access_daemon::{Exit, ExitCode, client_exit, note};
use access_postgres::prelude::{Wish, wish};
use access_postgres::wire::{Failure, sqlstate};
use bytes::BytesMut;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::chosen;
use super::target::{Login, Parameters, dns_name};
use crate::cli::{DbTarget, Global, ProxyDb};
use crate::context::{Session, clock};
use crate::profile::make_private;

/// How long a program may take to say what it wants.
const STARTUP_WITHIN: Duration = Duration::from_secs(60);

/// Serves a port of this machine until Ctrl-C.
pub(crate) async fn proxy(global: &Global, args: ProxyDb) -> Result<(), Exit> {
    let session = Session::open(global)?;
    let target = DbTarget { name: Some(args.name), db_user: args.db_user, db_name: args.db_name };
    let login = chosen(&session, &target).await?;
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = TcpListener::bind(wanted)
        .await
        .map_err(|err| Exit::failed(format!("cannot listen on {wanted}: {err}")))?;
    let addr = listener.local_addr().map_err(Exit::failed)?;
    let upstream = Arc::new(Upstream::new(&session, &login)?);
    note(&announcement(&session, &login, addr, args.tunnel).await?);
    let serve = async {
        loop {
            let (client, _) = listener.accept().await.map_err(Exit::failed)?;
            let upstream = Arc::clone(&upstream);
            tokio::spawn(async move {
                drop(client.set_nodelay(true));
                let served = if args.tunnel {
                    upstream.serve(client).await
                } else {
                    upstream.copy(client).await
                };
                if let Err(err) = served {
                    note(&format!("access: {err}"));
                }
            });
        }
    };
    tokio::select! {
        ended = serve => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn announcement(
    session: &Session,
    login: &Login,
    addr: SocketAddr,
    tunnel: bool,
) -> Result<String, Exit> {
    let Login { name, user, database, .. } = login;
    let command = if tunnel {
        let mut command = format!("psql \"host={} port={}", addr.ip(), addr.port());
        for (keyword, value) in [("user", user), ("dbname", database)] {
            if let Some(value) = value {
                command.push_str(&format!(" {keyword}={}", super::target::quoted(value)));
            }
        }
        format!("{command} sslmode=disable\"\n\nWhoever can open the port is you to the database.")
    } else {
        let folder = session.home.folder(&session.proxy);
        let cluster = &session.credentials.cluster;
        let straight = Parameters::straight(login, cluster, &session.proxy, &folder).await?;
        format!("psql \"{}\"", straight.through(addr).conninfo())
    };
    Ok(format!("{addr} leads to the database {name}, until Ctrl-C:\n\n  {command}"))
}

/// A socket in a folder that only this user can open, which leads to a database.
#[derive(Debug)]
pub(crate) struct PrivateSocket {
    folder: PathBuf,
    listener: UnixListener,
    upstream: Arc<Upstream>,
}

impl PrivateSocket {
    /// The port that is part of the socket's name.
    pub(crate) const PORT: u16 = 5432;

    /// Makes one.
    pub(crate) async fn open(session: &Session, login: &Login) -> Result<Self, Exit> {
        let mut random = [0; 16];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
            .map_err(|_| Exit::failed("the system gave no randomness"))?;
        let name = format!("access-{}", access_core::ids::uuid_text(random));
        let folder = std::env::temp_dir().join(name);
        make_private(&folder)?;
        let path = folder.join(format!(".s.PGSQL.{}", Self::PORT));
        let listener = UnixListener::bind(&path)
            .map_err(|err| Exit::failed(format!("cannot listen on {}: {err}", path.display())))?;
        let upstream = Arc::new(Upstream::new(session, login)?);
        Ok(Self { folder, listener, upstream })
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> String {
        self.folder.display().to_string()
    }

    /// Serves what connects. Ends with an error only.
    pub(crate) async fn serve(&self) -> Exit {
        loop {
            match self.listener.accept().await {
                Ok((client, _)) => {
                    let upstream = Arc::clone(&self.upstream);
                    tokio::spawn(async move { drop(upstream.serve(client).await) });
                }
                Err(err) => return Exit::failed(err),
            }
        }
    }
}

impl Drop for PrivateSocket {
    fn drop(&mut self) {
        // It is in a folder for its owner alone; a failure leaves an empty socket there.
        let _ = std::fs::remove_dir_all(Path::new(&self.folder));
    }
}

/// The way to one database.
#[derive(Debug)]
struct Upstream {
    proxy: HostPort,
    name: String,
    server_name: ServerName<'static>,
    dialer: TlsDialer,
    validity: Validity,
}

impl Upstream {
    fn new(session: &Session, login: &Login) -> Result<Self, Exit> {
        let dns = dns_name(&login.name, &session.credentials.cluster)?;
        let trust = session.credentials.trust().map_err(client_exit)?;
        let key = session.credentials.shared_key().map_err(client_exit)?;
        let trust = ServerTrust::HostAuthority(trust);
        let dialer = TlsDialer::new(trust, Some(key), clock(), &[ALPN_POSTGRESQL]);
        Ok(Self {
            proxy: session.proxy.clone(),
            name: login.name.clone(),
            server_name: ServerName::try_from(dns).map_err(Exit::usage)?,
            dialer: dialer.map_err(client_exit)?,
            validity: session.credentials.validity,
        })
    }

    /// Copies what passes; both ends speak TLS.
    async fn copy(&self, mut client: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Exit> {
        let mut proxy = dial_tcp(&self.proxy).await.map_err(client_exit)?;
        // How a client or a database leaves is no error of this program.
        drop(tokio::io::copy_bidirectional(&mut client, &mut proxy).await);
        Ok(())
    }

    /// Speaks TLS for a client that does not.
    async fn serve(&self, mut client: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Exit> {
        let mut more = BytesMut::new();
        // Encryption on this machine is declined.
        let wanted = tokio::time::timeout(STARTUP_WITHIN, wish(&mut client, &mut more)).await;
        let packet = match wanted {
            Ok(Ok(Ok(Wish::Session { packet, .. }))) => packet,
            Ok(Ok(Ok(Wish::Cancel(request)))) => {
                // In clear, as clients send it to a server: the number leads the proxy to the agent.
                let mut proxy = dial_tcp(&self.proxy).await.map_err(client_exit)?;
                drop(proxy.write_all(&request.encode()).await);
                drop(proxy.shutdown().await);
                drop(proxy.read(&mut [0]).await);
                return Ok(());
            }
            Ok(Ok(Err(failure))) => {
                drop(client.write_all(&failure.encode()).await);
                drop(client.shutdown().await);
                return Ok(());
            }
            Ok(Err(_)) | Err(_) => return Ok(()),
        };
        let mut database = match self.connect().await {
            Ok(database) => database,
            Err(why) => {
                let failure = Failure::fatal(sqlstate::UNABLE_TO_CONNECT, why.to_string());
                drop(client.write_all(&failure.encode()).await);
                drop(client.shutdown().await);
                return Err(why);
            }
        };
        let begun = async {
            database.write_all(&packet).await?;
            database.write_all(&more).await?;
            database.flush().await
        };
        if begun.await.is_ok() {
            drop(tokio::io::copy_bidirectional(&mut client, &mut database).await);
        }
        Ok(())
    }

    async fn connect(&self) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<>, Exit> {
        self.validity.check(clock().now()).map_err(|err| {
            let why = format!("your certificate is {err}: log in again");
            Exit::new(ExitCode::NotLoggedIn, why)
        })?;
        let connected = self.dialer.connect(&self.proxy, self.server_name.clone()).await;
        connected.map_err(|err| match err {
            ClientError::Unreachable { why, .. } if why == NOBODY => Exit::new(
                ExitCode::Unreachable,
                format!("there is no database {}, or its agent is not connected", self.name),
            ),
            other => client_exit(other),
        })
    }
}
