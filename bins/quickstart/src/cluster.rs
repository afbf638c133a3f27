//! The three services of one machine's cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use access_client::AuthClient;
use access_client::proto::CreateTokenRequest;
use access_daemon::config::{JoinMethod, JoinParams, OneOrMany, SshSection};
use access_daemon::{Config, Exit, Signals};
use agent_daemon::AgentDaemon;
use auth_daemon::AuthDaemon;
use proxy_daemon::ProxyDaemon;
use tokio_util::sync::CancellationToken;

use crate::Flags;
use crate::first_user::FirstUser;

/// Auth, proxy and agent, ready to be served, and what to tell about them.
pub(crate) struct Cluster {
    auth: Running,
    proxy: Running,
    agent: Running,
    pub(crate) name: String,
    pub(crate) auth_addr: SocketAddr,
    pub(crate) proxy_addr: SocketAddr,
    pub(crate) ca_file: PathBuf,
    pub(crate) ca_pin: String,
    pub(crate) node: String,
    pub(crate) user: FirstUser,
}

/// A service that runs: how to end it, and its end.
struct Running {
    stop: CancellationToken,
    done: tokio::task::JoinHandle<Result<(), Exit>>,
}

impl Running {
    fn start<F>(serve: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<(), Exit>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let done = tokio::spawn(serve(stop.clone()));
        Self { stop, done }
    }

    async fn end(self) -> Result<(), Exit> {
        self.stop.cancel();
        self.done.await.map_err(Exit::failed)?
    }
}

impl Cluster {
    /// Starts everything; returns once the node can be reached through the proxy.
    pub(crate) async fn start(flags: &Flags, config: Config) -> Result<Self, Exit> {
        let data_dir = std::path::absolute(&flags.data_dir).map_err(Exit::failed)?;
        let mut auth_config = config.clone();
        auth_config.auth_service.cluster_name = Some(flags.cluster_name.clone());
        auth_config.auth_service.listen_addr = Some((Ipv4Addr::LOCALHOST, 0).into());
        let auth = AuthDaemon::start(&auth_config, &data_dir).await?;
        let service = auth.service().clone();
        let auth_addr = auth.addr();
        let name = service.cluster_name().to_string();
        let pins: Vec<String> =
            service.ca_pins().map_err(Exit::failed)?.iter().map(ToString::to_string).collect();
        let admin = AuthClient::over_stream(service.local_pipe());
        let auth = Running::start(|stop| auth.run(stop));

        let mut proxy_config = config.clone();
        proxy_config.access.nodename = Some("proxy".into());
        proxy_config.access.auth_server = Some(OneOrMany::One(auth_addr.to_string()));
        proxy_config.access.ca_pin = Some(OneOrMany::Many(pins.clone()));
        proxy_config.proxy_service.web_listen_addr = Some(flags.listen);
        let proxy_dir = data_dir.join("proxy");
        let proxy = joining(&admin, "proxy", proxy_config, proxy_dir, |config, dir| async move {
            ProxyDaemon::start(&config, &dir).await
        })
        .await?;
        let proxy_addr = proxy.addr();
        let proxy = Running::start(|stop| proxy.run(stop));

        let node = node_name()?;
        let mut agent_config = config;
        agent_config.access.nodename = Some(node.clone());
        agent_config.access.proxy_server = Some(OneOrMany::One(proxy_addr.to_string()));
        agent_config.access.ca_pin = Some(OneOrMany::Many(pins.clone()));
        let mut section = SshSection::default();
        section.labels.insert("env".to_owned(), "quickstart".to_owned());
        agent_config.ssh_service = Some(section);
        let agent_dir = data_dir.join("agent");
        let agent = joining(&admin, "node", agent_config, agent_dir, |config, dir| async move {
            AgentDaemon::start(&config, &dir).await
        })
        .await?;
        let reachable = agent.ready();
        let agent = Running::start(|stop| agent.run(stop));
        reachable.await;

        let user = FirstUser::ensure(&admin, flags, proxy_addr).await?;
        let ca_file = data_dir.join("ca.pem");
        write_roots(&service, &ca_file)?;
        let ca_pin = pins.into_iter().next().unwrap_or_default();
        Ok(Self { auth, proxy, agent, name, auth_addr, proxy_addr, ca_file, ca_pin, node, user })
    }

    /// Runs until a signal, or until a service ends by itself, and then ends the others: the
    /// agent first, so that what it still has to tell finds Auth there.
    pub(crate) async fn run(mut self, mut signals: Signals) -> Result<(), Exit> {
        let early = tokio::select! {
            () = signals.stopped(|| {}) => None,
            ended = &mut self.auth.done => Some(ended),
            ended = &mut self.proxy.done => Some(ended),
            ended = &mut self.agent.done => Some(ended),
        };
        if let Some(ended) = early {
            ended.map_err(Exit::failed)??;
            return Err(Exit::failed("a service ended by itself"));
        }
        access_daemon::note("Stopping. Start it again for the same cluster.");
        let stop = async {
            self.agent.end().await?;
            self.proxy.end().await?;
            self.auth.end().await
        };
        tokio::select! {
            stopped = stop => stopped,
            () = signals.stopped(|| {}) => Err(Exit::failed("ended before everything was finished")),
        }
    }
}

/// Starts a service that joins, with a token.
async fn joining<T, F>(
    admin: &AuthClient,
    service: &str,
    mut config: Config,
    dir: PathBuf,
    start: impl Fn(Config, PathBuf) -> F,
) -> Result<T, Exit>
where
    F: Future<Output = Result<T, Exit>>,
{
    access_daemon::prepare_data_dir(&dir).map_err(Exit::failed)?;
    // Made at every start and used at most once: certificates that hold need none.
    let request = CreateTokenRequest {
        types: vec![service.to_owned()],
        ttl_seconds: 300,
        uses: 1,
        ..CreateTokenRequest::default()
    };
    let token = admin.admin().create_token(access_client::with_deadline(request)).await;
    let token = token.map_err(|status| Exit::failed(status.message()))?.into_inner();
    config.access.join_params =
        Some(JoinParams { method: JoinMethod::Token, token_name: token.token });
    start(config, dir).await
}

/// This host's name, without its domain, as a node's.
fn node_name() -> Result<String, Exit> {
    let name = access_daemon::host_name()?;
    let label = name.split('.').next().unwrap_or_default().to_lowercase();
    Ok(if label.is_empty() { "localhost".into() } else { label })
}

fn write_roots(service: &access_auth::AuthService, path: &Path) -> Result<(), Exit> {
    let trust = service.trust().load();
    let hosts = trust.of_kind(access_core::identity::AuthorityKind::Host);
    let roots = hosts.flat_map(|authority| &authority.tls);
    let pem: String = roots.map(access_client::certificate_pem).collect();
    std::fs::write(path, pem)
        .map_err(|err| Exit::failed(format!("cannot write {}: {err}", path.display())))
}
