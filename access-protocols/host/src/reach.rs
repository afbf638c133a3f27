//! The host's `Reach`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access_core::gate::{Guarded, Permit};
use access_core::policy::{Action, Target};
use access_core::reach::{
    BoxedStream, Connected, Place, Process, ProcessRequest, Reach, ReachError,
};
use access_core::resource::ResourceRef;
use arc_swap::ArcSwap;
use async_trait::async_trait;

use crate::dial::{self, Patience};
use crate::spawn::{self, Settings, SftpServer};

/// How long a target has to answer.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// How long a target may be silent whose host does not answer.
const SILENCE: Duration = Duration::from_secs(60);

/// How long a process has after SIGHUP before it is killed. With it, what a lock ends is over
/// within a second.
const KILL_GRACE: Duration = Duration::from_millis(500);

/// Reaches what this host can: addresses by TCP, and processes as its own accounts.
///
/// **Processes** run with the uid, the groups, the home and the shell of the permit's login, in a
/// session of their own, with an environment built from nothing and no descriptor of this process
/// but the three standard ones. Run as root, this serves every account; run as anybody else, only
/// their own, and says so. When the permit ends, every process of the session gets SIGHUP and
/// SIGCONT, and SIGKILL after a grace; when the [`Process`] is dropped, those of the leader's
/// group do. Once the first process has exited by itself, what it left in the background lives
/// on, as with `sshd`. A process is always reaped.
///
/// With a terminal, output ends when the first process has exited and all that was written until
/// then was read. With pipes it ends when the last holder has closed them. A terminal's input has
/// no end: shutting it down does nothing, as with `sshd`.
///
/// **Connections**: a permit for `ssh.forward` leads to the address that it names; one for a
/// database, app, Kubernetes cluster or desktop to the address that
/// [`HostReachBuilder::route`] gave for that resource.
#[derive(Clone, Debug)]
pub struct HostReach {
    settings: Arc<Settings>,
    routes: Arc<ArcSwap<Routes>>,
    patience: Patience,
}

/// The addresses of each target, in the order in which they are tried.
type Routes = HashMap<ResourceRef, Vec<Address>>;

impl HostReach {
    /// Starts with the defaults: 10 seconds to dial, half a second of grace, this very program
    /// as the SFTP server.
    pub fn builder() -> HostReachBuilder {
        HostReachBuilder {
            sftp: Sftp::Executable(PathBuf::from("/proc/self/exe")),
            routes: HashMap::new(),
            patience: Patience { dial: DIAL_DEADLINE, silence: SILENCE },
            kill_grace: KILL_GRACE,
        }
    }

    /// Gives a resource other addresses, each `HOST:PORT`; none at all removes it. Connections
    /// that are open stay. Clones of this reach share its routes.
    ///
    /// # Errors
    /// [`HostError::Route`] when an address is malformed; nothing is changed then.
    pub fn set_route<A: AsRef<str>>(
        &self,
        resource: &ResourceRef,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<(), HostError> {
        let addresses = addresses
            .into_iter()
            .map(|address| Address::parse(resource, address.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        self.routes.rcu(|routes| {
            let mut routes = Routes::clone(routes);
            if addresses.is_empty() {
                routes.remove(resource);
            } else {
                routes.insert(resource.clone(), addresses.clone());
            }
            routes
        });
        Ok(())
    }
}

/// Sets a [`HostReach`] up.
#[derive(Clone, Debug)]
pub struct HostReachBuilder {
    sftp: Sftp,
    routes: Routes,
    patience: Patience,
    kill_grace: Duration,
}

#[derive(Clone, Debug)]
enum Sftp {
    Program { path: OsString, args: Vec<OsString> },
    Executable(PathBuf),
}

#[derive(Clone, Debug)]
struct Address {
    host: String,
    port: u16,
}

impl Address {
    fn parse(resource: &ResourceRef, address: &str) -> Result<Self, HostError> {
        address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)))
            .filter(|(host, _)| !host.is_empty())
            .map(|(host, port)| Self { host: host.to_owned(), port })
            .ok_or_else(|| HostError::Route {
                resource: resource.clone(),
                address: address.to_owned(),
            })
    }
}

/// Why a [`HostReach`] cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The SFTP server's program can't be opened.
    #[error("the program for SFTP, {path}, can't be opened: {source}")]
    SftpServer {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A route's address is none.
    #[error("{address:?} is no address for {resource}: write HOST:PORT")]
    Route {
        /// The resource.
        resource: ResourceRef,
        /// What was given.
        address: String,
    },
}

impl HostReachBuilder {
    /// Serves SFTP with a program of the host, such as `/usr/lib/openssh/sftp-server`. It is
    /// looked up with the login's privileges, each time.
    #[must_use]
    pub fn sftp_server(
        mut self,
        path: impl Into<OsString>,
        args: impl IntoIterator<Item = OsString>,
    ) -> Self {
        self.sftp = Sftp::Program { path: path.into(), args: args.into_iter().collect() };
        self
    }

    /// Serves SFTP with a program that calls [`crate::sftp::run_if_invoked`]. It is opened when
    /// this is built: the login need not be able to reach it (to execute it, it does), and it
    /// stays the same when the file is replaced. The default is the program that runs.
    #[must_use]
    pub fn sftp_executable(mut self, path: impl Into<PathBuf>) -> Self {
        self.sftp = Sftp::Executable(path.into());
        self
    }

    /// Says at which address, `HOST:PORT`, a resource is. Given again for the same resource, it
    /// adds an address, which is tried when those before it do not answer.
    ///
    /// # Errors
    /// [`HostError::Route`] when the address is malformed.
    pub fn route(
        mut self,
        resource: ResourceRef,
        address: impl Into<String>,
    ) -> Result<Self, HostError> {
        let address = Address::parse(&resource, &address.into())?;
        self.routes.entry(resource).or_default().push(address);
        Ok(self)
    }

    /// How long resolving and connecting may take together; 10 seconds unless told.
    #[must_use]
    pub fn dial_deadline(mut self, deadline: Duration) -> Self {
        self.patience.dial = deadline;
        self
    }

    /// After how long a connection is over from which nothing comes and whose other end does not
    /// answer the kernel's question whether it is there: its host is off, or the way to it broken.
    /// A minute unless told. A program that hangs on a host that is well is not noticed this way,
    /// and what is on its way to a host that vanishes is repeated for as long as the kernel does, a
    /// quarter of an hour.
    #[must_use]
    pub fn silence(mut self, silence: Duration) -> Self {
        self.patience.silence = silence;
        self
    }

    /// How long after SIGHUP a process is killed; half a second unless told.
    #[must_use]
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.kill_grace = grace;
        self
    }

    /// Makes the reach.
    ///
    /// # Errors
    /// [`HostError::SftpServer`] when the SFTP server's program can't be opened.
    pub fn build(self) -> Result<HostReach, HostError> {
        let sftp = match self.sftp {
            Sftp::Program { path, args } => SftpServer::Program { path, args },
            Sftp::Executable(path) => {
                let file = open_executable(&path)
                    .map_err(|source| HostError::SftpServer { path, source })?;
                SftpServer::Opened(file)
            }
        };
        Ok(HostReach {
            settings: Arc::new(Settings { sftp, grace: self.kill_grace }),
            routes: Arc::new(ArcSwap::from_pointee(self.routes)),
            patience: self.patience,
        })
    }
}

/// Opens a program to execute it later: `O_PATH` asks for no permission to read it.
fn open_executable(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(path)
}

#[async_trait]
impl Reach for HostReach {
    async fn dial(&self, permit: &Permit) -> Result<Guarded<BoxedStream>, ReachError> {
        Ok(self.connect(permit, 0).await?.stream)
    }

    async fn connect(&self, permit: &Permit, skip: usize) -> Result<Connected, ReachError> {
        let addresses = self.addresses_of(permit)?;
        let count = addresses.len();
        let mut last = ReachError::Io {
            what: "connecting to the target".into(),
            source: io::Error::new(io::ErrorKind::NotFound, "no further address"),
        };
        for (at, Address { host, port }) in addresses.into_iter().enumerate().skip(skip) {
            let stream = tokio::select! {
                biased;
                reason = permit.ended() => {
                    let source = io::Error::new(io::ErrorKind::PermissionDenied, reason);
                    return Err(ReachError::Io { what: connecting(&host, port), source });
                }
                stream = dial::connect(&host, port, self.patience) => stream,
            };
            match stream.and_then(|stream| Ok((stream.peer_addr()?, stream))) {
                Ok((addr, stream)) => {
                    let patience = self.patience;
                    return Ok(Connected {
                        stream: permit.guard(Box::new(stream)),
                        place: Some(Arc::new(Dialled { host, addr, patience })),
                        next: (at + 1 < count).then_some(at + 1),
                    });
                }
                Err(source) => last = ReachError::Io { what: connecting(&host, port), source },
            }
        }
        Err(last)
    }

    async fn spawn(&self, permit: &Permit, process: ProcessRequest) -> Result<Process, ReachError> {
        spawn::spawn(Arc::clone(&self.settings), permit, process).await
    }
}

fn connecting(host: &str, port: u16) -> String {
    format!("connecting to {host}:{port}")
}

/// The address that a connection was opened to; a name may lead elsewhere the next time.
struct Dialled {
    host: String,
    addr: SocketAddr,
    patience: Patience,
}

#[async_trait]
impl Place for Dialled {
    fn host(&self) -> &str {
        &self.host
    }

    fn address(&self) -> String {
        self.addr.to_string()
    }

    async fn dial_to_stop(&self) -> Result<BoxedStream, ReachError> {
        let Self { addr, .. } = self;
        match dial::connect(&addr.ip().to_string(), addr.port(), self.patience).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(source) => Err(ReachError::Io { what: format!("connecting to {addr}"), source }),
        }
    }
}

impl HostReach {
    /// Host and port of each address that a target has here, in order.
    pub(crate) fn route_of(&self, resource: &ResourceRef) -> Vec<(String, u16)> {
        let routes = self.routes.load();
        let addresses = routes.get(resource).into_iter().flatten();
        addresses.map(|address| (address.host.clone(), address.port)).collect()
    }

    pub(crate) const fn patience(&self) -> Patience {
        self.patience
    }

    fn addresses_of(&self, permit: &Permit) -> Result<Vec<Address>, ReachError> {
        match permit.action() {
            Action::SshForward { host, port, .. } => {
                Ok(vec![Address { host: host.clone(), port: *port }])
            }
            Action::Database { .. }
            | Action::App { .. }
            | Action::Kubernetes { .. }
            | Action::Desktop { .. } => {
                let resource = match permit.target() {
                    Target::Resource(resource) => &resource.id,
                    Target::Api { .. } => return Err(ReachError::NotPermitted("a connection")),
                };
                self.routes.load().get(resource).cloned().ok_or_else(|| ReachError::Io {
                    what: format!("connecting to {resource}"),
                    source: io::Error::new(
                        io::ErrorKind::NotFound,
                        "no address is configured for it here",
                    ),
                })
            }
            Action::See
            | Action::SshSession { .. }
            | Action::SshSftp { .. }
            | Action::SshListen { .. }
            | Action::SshAgent { .. }
            | Action::DatabaseStatement { .. }
            | Action::Api(_) => Err(ReachError::NotPermitted("a connection")),
        }
    }
}
