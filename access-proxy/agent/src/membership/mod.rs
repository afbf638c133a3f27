//! A host's place in the cluster: joined once, renewed ever after.
//!
//! ```text
//!              token, pin                      2/3 of the certificate's life
//!  nothing ───────────────► joined ◄───────────────────────────────┐
//!              keys first,    │  └──► new keys on disk ──► renewed ─┘
//!              on disk        │
//!                             └──► expired ──(a new token, the same keys)──► joined
//! ```
//!
//! Keys are on the disk before they are sent, and stay there until the certificates for them are:
//! whichever answer is lost, the same keys are sent again, and Auth answers the same again.

mod contact;
mod discover;
mod options;
mod renewal;
mod state;

use std::path::Path;
use std::sync::Arc;

use access_client::{AuthClient, AuthEndpoint, ClientError, Credentials, HostPort, KeySet};
use access_core::identity::{SharedTrust, Subject};
use access_core::recording::{RecordingError, RingSigner};
use access_core::time::Clock;
use access_core::tls::{ServerTrust, SharedKey};
use access_core::{ClusterName, HostId, ResourceRef};
use arc_swap::ArcSwap;
use tokio::sync::watch;
use tracing::{info, warn};

pub use options::{AuthRoute, HostOptions, JoinToken};

use crate::error::AgentError;
use contact::Contact;
use state::{Pending, StateDir};

/// A host of the cluster: its id, its certificates, and a client to Auth that shows them.
///
/// Agents and proxies alike start with it. [`Membership::keep_renewed`] has to run for as long as
/// the process does.
pub struct Membership {
    options: HostOptions,
    clock: Arc<dyn Clock>,
    state: StateDir,
    cluster: ClusterName,
    host: HostId,
    trust: Arc<SharedTrust>,
    key: Arc<SharedKey>,
    addresses: Vec<HostPort>,
    client: ArcSwap<AuthClient>,
    current: watch::Sender<Arc<Credentials>>,
    /// One renewal at a time; whether the credentials in use still have to be written.
    renewing: tokio::sync::Mutex<bool>,
}

impl Membership {
    /// Takes up the host's place: with what the data directory holds, or by joining with the
    /// token. Returns once there are certificates that hold.
    ///
    /// # Errors
    /// [`AgentError`] says what is missing or who refused; nothing is left half written.
    pub async fn open(options: HostOptions, clock: Arc<dyn Clock>) -> Result<Self, AgentError> {
        let state = StateDir::open(&options.data_dir).await?;
        let loaded = state.credentials()?;
        if let (Some(held), Some(expected)) = (&loaded, &options.cluster)
            && held.cluster != *expected
        {
            return Err(AgentError::OtherCluster {
                found: held.cluster.clone(),
                expected: expected.clone(),
            });
        }
        let now = clock.now();
        let (credentials, addresses) = match loaded {
            Some(held) if now < held.validity.not_after() => {
                held.check(now)?;
                let addresses = contact::addresses(&options)?;
                (held, addresses)
            }
            Some(held) if options.token.is_none() => {
                return Err(AgentError::Expired(held.validity.not_after()));
            }
            held => Self::join(&options, &clock, &state, held).await?,
        };
        let membership = Self::with(options, clock, state, credentials, addresses)?;
        membership.renew_for_new_claims().await?;
        Ok(membership)
    }

    fn with(
        options: HostOptions,
        clock: Arc<dyn Clock>,
        state: StateDir,
        credentials: Credentials,
        addresses: Vec<HostPort>,
    ) -> Result<Self, AgentError> {
        let host = credentials.host_id.clone().ok_or_else(|| {
            AgentError::file(state.path(), "the stored certificates are no host's")
        })?;
        let (trust, key) = (credentials.trust()?, credentials.shared_key()?);
        let cluster = credentials.cluster.clone();
        let client = client(&addresses, &cluster, &trust, &key, &clock)?;
        Ok(Self {
            options,
            clock,
            state,
            cluster,
            host,
            trust,
            key,
            addresses,
            client: ArcSwap::from_pointee(client),
            current: watch::Sender::new(Arc::new(credentials)),
            renewing: tokio::sync::Mutex::new(false),
        })
    }

    /// Joins, with the keys of `held` when the host has been a member before.
    async fn join(
        options: &HostOptions,
        clock: &Arc<dyn Clock>,
        state: &StateDir,
        held: Option<Credentials>,
    ) -> Result<(Credentials, Vec<HostPort>), AgentError> {
        let token = options.token.as_ref().ok_or(AgentError::NoToken)?;
        let trust = match &held {
            // A pin that was given counts more than what was trusted long ago.
            Some(held) if options.pins.is_empty() => ServerTrust::HostAuthority(held.trust()?),
            _ if options.pins.is_empty() => return Err(AgentError::NoPin),
            _ => ServerTrust::Pins(options.pins.clone()),
        };
        let known = held.as_ref().map(|held| held.cluster.clone());
        let Contact { cluster, addresses } = contact::first(options, known, clock).await?;
        let client = AuthClient::new(AuthEndpoint {
            addresses: addresses.clone(),
            cluster,
            trust,
            key: None,
            clock: Arc::clone(clock),
        })?;
        client.ping(clock.now()).await?;
        let mut tries = Vec::new();
        // The keys that Auth certified last are the ones that prove who this is: those of a
        // renewal whose answer was lost, or those that are held.
        match (state.pending()?, held) {
            (Some(pending), held) => {
                let host = pending.host.clone();
                tries.push((pending.host, pending.keys));
                tries.extend(held.map(|held| (held.host_id.unwrap_or(host), held.keys)));
            }
            (None, Some(Credentials { host_id: Some(host), keys, .. })) => tries.push((host, keys)),
            (None, _) => {
                let pending = Pending::draw()?;
                state.save_pending(&pending)?;
                tries.push((pending.host, pending.keys));
            }
        }
        let mut refused = None;
        for (host, keys) in tries {
            match client.join(token.reveal(), Some(&host), options.claims(), keys).await {
                Ok(credentials) => {
                    if credentials.host_id.as_ref() != Some(&host) {
                        let why = "the answer to the join names another host";
                        return Err(ClientError::Malformed(why.into()).into());
                    }
                    state.save(&credentials, &options.claims())?;
                    info!(%host, cluster = %credentials.cluster, "joined the cluster");
                    return Ok((credentials, addresses));
                }
                Err(
                    err @ (ClientError::Unauthenticated(_)
                    // The id is taken, by the keys of the other try.
                    | ClientError::AlreadyExists(_)
                    | ClientError::Conflict(_)
                    | ClientError::Denied(_)
                    | ClientError::NotFound(_)
                    | ClientError::Invalid(_)),
                ) => refused = Some(err),
                Err(err) => return Err(err.into()),
            }
        }
        Err(match refused {
            Some(
                ClientError::Unauthenticated(why)
                | ClientError::AlreadyExists(why)
                | ClientError::Conflict(why)
                | ClientError::Denied(why)
                | ClientError::NotFound(why)
                | ClientError::Invalid(why),
            ) => AgentError::TokenRefused(why),
            Some(other) => other.into(),
            None => AgentError::NoToken,
        })
    }

    /// Joins again after the certificates have expired, with the token that was given at the
    /// start.
    async fn rejoin(&self) -> Result<Credentials, AgentError> {
        let held = self.state.credentials()?;
        Ok(Self::join(&self.options, &self.clock, &self.state, held).await?.0)
    }

    /// At a start with other claims than the certificates were made for: asks for new ones.
    async fn renew_for_new_claims(&self) -> Result<(), AgentError> {
        if self.state.claims()?.is_some_and(|claims| claims == self.options.claims()) {
            return Ok(());
        }
        info!("the configuration names other services or resources: renewing the certificates");
        match self.renew().await {
            // What the old certificates say still works meanwhile.
            Err(AgentError::Client(
                err @ (ClientError::Unreachable { .. } | ClientError::Server(_)),
            )) => {
                warn!("the certificates could not be renewed for the new configuration yet: {err}");
                Ok(())
            }
            // A new service takes a new token, and the host stays who it was.
            Err(AgentError::Client(ClientError::Denied(why))) if self.options.token.is_some() => {
                info!("joining again with the token: {why}");
                let credentials = self.rejoin().await?;
                self.adopt(credentials)
            }
            other => other,
        }
    }

    /// Whether the certificates were made for what is configured now.
    pub(super) fn claims_are_current(&self) -> bool {
        matches!(self.state.claims(), Ok(Some(claims)) if claims == self.options.claims())
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The host's id: made with its first keys, the same ever after.
    pub fn host_id(&self) -> &HostId {
        &self.host
    }

    /// What the host calls itself.
    pub fn nodename(&self) -> &str {
        &self.options.nodename
    }

    /// Where its state is.
    pub fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// The options that it was opened with.
    pub fn options(&self) -> &HostOptions {
        &self.options
    }

    /// What the certificates of this moment say that it serves: what is configured, and what
    /// [`HostOptions::databases`] matched when they were issued.
    ///
    /// # Errors
    /// [`AgentError::Client`] when they do not hold.
    pub fn certified(&self) -> Result<Vec<ResourceRef>, AgentError> {
        let current = self.current.borrow().clone();
        let who = self.trust.load().verify_tls(&current.tls_chain, self.clock.now());
        let who = who.map_err(|err| ClientError::Unauthenticated(err.to_string()))?;
        match &who.identity().subject {
            Subject::Host { resources, .. } => Ok(resources.clone()),
            _ => Ok(Vec::new()),
        }
    }

    /// What it trusts; replaced in place when the authorities change.
    pub fn trust(&self) -> Arc<SharedTrust> {
        Arc::clone(&self.trust)
    }

    /// What it shows in TLS; replaced in place by renewals.
    pub fn key(&self) -> Arc<SharedKey> {
        Arc::clone(&self.key)
    }

    /// The time.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// The keys and certificates, and word of every renewal: for what is not replaced in place,
    /// such as an SSH server's host key.
    pub fn credentials(&self) -> watch::Receiver<Arc<Credentials>> {
        self.current.subscribe()
    }

    /// A client of Auth that shows the certificates of this moment. Take it anew for each call or
    /// stream: a connection keeps the certificates that it was made with.
    pub fn client(&self) -> AuthClient {
        AuthClient::clone(&self.client.load())
    }

    /// Signs recordings with the host's TLS key of this moment.
    ///
    /// # Errors
    /// [`RecordingError::Signature`] when the key cannot be used.
    pub fn signer(&self) -> Result<RingSigner, RecordingError> {
        let current = self.current.borrow();
        RingSigner::from_pkcs8(current.keys.tls.pkcs8(), current.tls_chain.clone())
    }

    /// Puts new certificates into use, everywhere at once.
    fn adopt(&self, credentials: Credentials) -> Result<(), AgentError> {
        self.key.replace(credentials.tls_chain.clone(), credentials.keys.tls.to_rustls())?;
        self.trust.replace(credentials.trust_store()?);
        let client = client(&self.addresses, &self.cluster, &self.trust, &self.key, &self.clock)?;
        self.client.store(Arc::new(client));
        self.current.send_replace(Arc::new(credentials));
        Ok(())
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("host", &self.host)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

fn client(
    addresses: &[HostPort],
    cluster: &ClusterName,
    trust: &Arc<SharedTrust>,
    key: &Arc<SharedKey>,
    clock: &Arc<dyn Clock>,
) -> Result<AuthClient, AgentError> {
    Ok(AuthClient::new(AuthEndpoint::authenticated(
        addresses.to_vec(),
        cluster.clone(),
        Arc::clone(trust),
        Arc::clone(key),
        Arc::clone(clock),
    ))?)
}

/// The same keys once more.
fn copy_keys(keys: &KeySet) -> Result<KeySet, ClientError> {
    let tls = access_client::TlsKey::from_pkcs8(keys.tls.pkcs8())?;
    Ok(KeySet { ssh: keys.ssh.clone(), tls })
}
