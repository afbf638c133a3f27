//! A client of the API: one connection, any number of calls.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use access_core::identity::SharedTrust;
use access_core::ids::ClusterName;
use access_core::time::{Clock, Timestamp};
use access_core::tls::{ALPN_H2, ServerTrust, SharedKey};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::address::HostPort;
use crate::credentials::{Credentials, MAX_CLOCK_SKEW};
use crate::dial::{TlsDialer, auth_name};
use crate::error::{ClientError, causes};
use crate::keys::KeySet;
use crate::proto;
use crate::proto::admin_client::AdminClient;
use crate::proto::audit_client::AuditClient;
use crate::proto::entry_client::EntryClient;
use crate::proto::identity_client::IdentityClient;
use crate::proto::recordings_client::RecordingsClient;
use crate::proto::resources_client::ResourcesClient;
use crate::ways::{Ways, jittered};

/// How long a call may take when it is no stream.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// For how long a call is repeated that may be, and the first pause before that.
const STEADY_FOR: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The largest message that is sent or received, in bytes.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// A client of one cluster's Auth Service. Clones share the connection, which is made when it is
/// first needed and made again when it broke.
#[derive(Clone)]
pub struct AuthClient {
    channel: Channel,
    ways: Option<Arc<Ways>>,
}

impl std::fmt::Debug for AuthClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthClient").finish_non_exhaustive()
    }
}

/// How to reach and believe the Auth Service.
#[derive(Clone)]
pub struct AuthEndpoint {
    /// Where to dial: proxies, or replicas of Auth. Each connection begins with one that is drawn
    /// at random; those that failed lately are tried last.
    pub addresses: Vec<HostPort>,
    /// The cluster; Auth has to prove to be `auth.CLUSTER`.
    pub cluster: ClusterName,
    /// What it is believed by.
    pub trust: ServerTrust,
    /// The certificate to show; none before a login or a join.
    pub key: Option<Arc<SharedKey>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl AuthEndpoint {
    /// An endpoint for somebody who has credentials already; `key` and `trust` may be shared with
    /// whoever renews them.
    pub fn authenticated(
        addresses: Vec<HostPort>,
        cluster: ClusterName,
        trust: Arc<SharedTrust>,
        key: Arc<SharedKey>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { addresses, cluster, trust: ServerTrust::HostAuthority(trust), key: Some(key), clock }
    }
}

impl AuthClient {
    /// A client that connects when it is first used.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] without an address, [`ClientError::Tls`].
    pub fn new(endpoint: AuthEndpoint) -> Result<Self, ClientError> {
        if endpoint.addresses.is_empty() {
            return Err(ClientError::Invalid("no address of the auth service is known".into()));
        }
        let name = ServerName::try_from(auth_name(&endpoint.cluster))
            .map_err(|err| ClientError::Invalid(err.to_string()))?;
        let trust = match endpoint.trust {
            // The cluster's name may be somebody's word so far: the pinned root has to confirm it.
            ServerTrust::Pins(pins) => {
                ServerTrust::PinnedCluster { pins, cluster: endpoint.cluster }
            }
            other => other,
        };
        let dialer = TlsDialer::new(trust, endpoint.key, Arc::clone(&endpoint.clock), &[ALPN_H2])?;
        let ways = Arc::new(Ways::new(endpoint.addresses, endpoint.clock));
        let reached = Arc::clone(&ways);
        let connector = service_fn(move |_| {
            let (dialer, name, ways) = (dialer.clone(), name.clone(), Arc::clone(&ways));
            async move { ways.connect(&dialer, &name).await.map(TokioIo::new) }
        });
        let channel = settings().connect_with_connector_lazy(connector);
        Ok(Self { channel, ways: Some(reached) })
    }

    /// Gives up the connection of the moment, for one that says nothing any more: what is under way
    /// on it fails, and the next call goes to another address if there is one. Does nothing where
    /// there is no address, but a socket or a stream.
    pub fn fail_over(&self) {
        if let Some(ways) = &self.ways {
            ways.fail_over();
        }
    }

    /// A client over a local socket, where the service takes whoever may open it for the
    /// administrator of its host.
    pub fn local_socket(path: PathBuf) -> Self {
        let connector = service_fn(move |_| {
            let path = path.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(&path).await.map_err(|err| {
                    ClientError::Unreachable {
                        address: path.display().to_string(),
                        why: err.to_string(),
                    }
                })?;
                Ok::<_, ClientError>(TokioIo::new(stream))
            }
        });
        Self { channel: settings().connect_with_connector_lazy(connector), ways: None }
    }

    /// A client over one stream that is already there, such as a pipe to a service in the same
    /// process.
    pub fn over_stream(stream: impl access_core::reach::Stream) -> Self {
        let stream = std::sync::Mutex::new(Some(stream));
        let connector = service_fn(move |_| {
            let stream = stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            async move {
                stream.map(TokioIo::new).ok_or_else(|| ClientError::Unreachable {
                    address: "the service in this process".into(),
                    why: "it has ended".into(),
                })
            }
        });
        Self { channel: settings().connect_with_connector_lazy(connector), ways: None }
    }

    /// Which cluster answers. Fails when the clocks are too far apart for certificates.
    ///
    /// # Errors
    /// [`ClientError::Clock`], or what the call came to.
    pub async fn ping(&self, now: Timestamp) -> Result<proto::PingResponse, ClientError> {
        let answer = self.steady(|| {
            let mut entry = self.entry();
            async move { Ok(entry.ping(proto::PingRequest {}).await?.into_inner()) }
        });
        let answer = answer.await?;
        let off = now.as_millis() - answer.time;
        if off.unsigned_abs() > u64::try_from(MAX_CLOCK_SKEW.as_millis()).unwrap_or(u64::MAX) {
            return Err(ClientError::Clock(off / 1000));
        }
        Ok(answer)
    }

    /// Logs in with a password: certificates for the keys that were made before.
    ///
    /// # Errors
    /// [`ClientError::Unauthenticated`] for a wrong name or password, [`ClientError::Malformed`]
    /// for certificates of other keys or somebody else; others as they come.
    pub async fn login(
        &self,
        user: &str,
        password: &str,
        keys: KeySet,
        ttl: Option<Duration>,
    ) -> Result<Credentials, ClientError> {
        let public = keys.public()?;
        // Whose answer was lost asks again: nobody has the certificates that were made then.
        let answer = self.steady(|| {
            let request = proto::LoginRequest {
                user: user.into(),
                password: password.into(),
                keys: Some(public.clone()),
                ttl_seconds: ttl.map_or(0, |ttl| ttl.as_secs()),
                totp: String::new(),
            };
            let mut entry = self.entry();
            async move { Ok(entry.login(request).await?.into_inner()) }
        });
        let answer = answer.await?;
        let credentials = Credentials::from_answer(keys, answer)?;
        credentials.check_user(user)?;
        Ok(credentials)
    }

    /// Joins the cluster with a token.
    ///
    /// # Errors
    /// [`ClientError::Unauthenticated`] or [`ClientError::Conflict`] for a token that is wrong,
    /// spent or expired.
    pub async fn join(
        &self,
        token: &str,
        host_id: Option<&access_core::HostId>,
        claims: proto::HostClaims,
        keys: KeySet,
    ) -> Result<Credentials, ClientError> {
        let request = proto::JoinRequest {
            token: token.into(),
            keys: Some(keys.public()?),
            host_id: host_id.map(ToString::to_string).unwrap_or_default(),
            claims: Some(claims),
        };
        // With the same keys Auth answers the same again.
        let answer = self.steady(|| {
            let (mut entry, request) = (self.entry(), request.clone());
            async move { Ok(entry.join(request).await?.into_inner()) }
        });
        let answer = answer.await?;
        Credentials::from_answer(keys, answer)
    }

    /// Renews a host's certificates, for new keys.
    ///
    /// # Errors
    /// What the call came to.
    pub async fn renew_host(
        &self,
        claims: proto::HostClaims,
        keys: KeySet,
    ) -> Result<Credentials, ClientError> {
        let request = proto::RenewHostRequest { keys: Some(keys.public()?), claims: Some(claims) };
        let answer = self.identity().renew_host(request).await?.into_inner();
        Credentials::from_answer(keys, answer)
    }

    /// Makes a call that may be repeated, again if a replica of Auth went away under it.
    async fn steady<T, F>(&self, call: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let began = tokio::time::Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match call().await {
                Err(ClientError::Unreachable { .. }) if began.elapsed() + pause < STEADY_FOR => {}
                done => return done,
            }
            tokio::time::sleep(jittered(pause)).await;
            pause *= 2;
        }
    }

    /// The calls that need no identity.
    pub fn entry(&self) -> EntryClient<Channel> {
        EntryClient::new(self.channel.clone())
    }

    /// The calls about oneself.
    pub fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel.clone())
    }

    /// The calls of administrators.
    pub fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    /// Documents.
    pub fn resources(&self) -> ResourcesClient<Channel> {
        ResourcesClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The audit log.
    pub fn audit(&self) -> AuditClient<Channel> {
        AuditClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Session recordings.
    pub fn recordings(&self) -> RecordingsClient<Channel> {
        RecordingsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }
}

/// The settings of every channel. The URI is never dialled: the connector decides.
fn settings() -> Endpoint {
    Endpoint::from_static("http://auth")
        // Each address has its own deadline, and they do not wait for one another for long.
        .connect_timeout(crate::dial::CONNECT_DEADLINE * 4)
        .http2_keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(false)
        .user_agent(concat!("access/", env!("CARGO_PKG_VERSION")))
        .unwrap_or_else(|_| Endpoint::from_static("http://auth"))
}

/// Gives a call a deadline; streams have none.
pub fn with_deadline<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_DEADLINE);
    request
}

impl From<ClientError> for std::io::Error {
    fn from(error: ClientError) -> Self {
        Self::other(causes(&error))
    }
}
