//! The cluster that a command is about, and the calls that most commands make.

use std::collections::HashMap;
use std::sync::Arc;

use access_client::proto::{Document as Carried, GetRequest, ListRequest, WriteRequest};
use access_client::types::{Document, DocumentSpec};
use access_client::{AuthClient, AuthEndpoint, Credentials, HostPort, with_deadline};
use access_core::policy::ApiKind;
use access_core::time::Clock;
use access_daemon::{Config, Exit, ExitCode, Home, identity_file};
use access_host::SystemClock;

use crate::cli::Global;
use crate::local::{self, OwnService};
use crate::place::{Environment, Place, Remote};
use access_daemon::client_exit;

/// A cluster, reached.
pub(crate) struct Cluster {
    client: AuthClient,
    own: Option<OwnService>,
    /// The proxy through which it is reached, or which links are to lead through.
    proxy: Option<HostPort>,
}

/// The time.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

impl Cluster {
    /// Finds the cluster that flags and environment mean.
    pub(crate) async fn open(global: &Global) -> Result<Self, Exit> {
        let environment = Environment::current();
        let config = global.config.as_deref().map(Config::load).transpose().map_err(Exit::usage)?;
        let mut global = global.clone();
        if let (Some(config), None) = (&config, &global.data_dir) {
            global.data_dir = Some(config.data_dir());
        }
        let global = &global;
        match Place::choose(global, &environment)? {
            Place::Here(dir) => {
                let proxy = global.proxy.as_deref().map(access_daemon::parse_proxy);
                let proxy = proxy.transpose()?;
                let (client, own) = local::open(&dir, config.as_ref()).await?;
                Ok(Self { client, own, proxy })
            }
            Place::Elsewhere(remote) => Self::elsewhere(remote, &environment),
        }
    }

    fn elsewhere(remote: Remote, environment: &Environment) -> Result<Self, Exit> {
        let home = Home::open(environment.home.clone())?;
        let (proxy, credentials) = credentials(&remote, &home)?;
        credentials.check(clock().now()).map_err(client_exit)?;
        let mut addresses = remote.auth_servers;
        if addresses.is_empty() {
            addresses.extend(proxy.clone());
        }
        if addresses.is_empty() {
            return Err(Exit::usage(
                "an identity file needs --proxy or --auth-server HOST:PORT beside it",
            ));
        }
        let endpoint = AuthEndpoint::authenticated(
            addresses,
            credentials.cluster.clone(),
            credentials.trust().map_err(client_exit)?,
            credentials.shared_key().map_err(client_exit)?,
            clock(),
        );
        Ok(Self { client: AuthClient::new(endpoint).map_err(client_exit)?, own: None, proxy })
    }

    /// Lets go of the cluster.
    pub(crate) async fn close(self) -> Result<(), Exit> {
        drop(self.client);
        match self.own {
            Some(own) => own.close().await,
            None => Ok(()),
        }
    }

    /// The client.
    pub(crate) fn client(&self) -> &AuthClient {
        &self.client
    }

    /// The proxy that was named, or is used.
    pub(crate) fn proxy(&self) -> Option<&HostPort> {
        self.proxy.as_ref()
    }

    /// One document as it is carried.
    pub(crate) async fn get_carried(&self, kind: ApiKind, name: &str) -> Result<Carried, Exit> {
        let request = GetRequest { kind: kind.as_str().into(), name: name.into() };
        let answer = self.client.resources().get(with_deadline(request)).await;
        Ok(answer.map_err(client_exit)?.into_inner())
    }

    /// One document.
    pub(crate) async fn get<S: DocumentSpec>(&self, name: &str) -> Result<Document<S>, Exit> {
        let carried = self.get_carried(S::KIND, name).await?;
        Document::from_json(&carried.json).map_err(Exit::failed)
    }

    /// Every document of a kind as it is carried.
    pub(crate) async fn list_carried(
        &self,
        kind: ApiKind,
        labels: &HashMap<String, String>,
    ) -> Result<Vec<Carried>, Exit> {
        let mut documents = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListRequest {
                kind: kind.as_str().into(),
                page_size: 0,
                page_token,
                labels: labels.clone(),
                // Administrators look at what they have just done.
                lately: false,
            };
            let answer = self.client.resources().list(with_deadline(request)).await;
            let answer = answer.map_err(client_exit)?.into_inner();
            documents.extend(answer.documents);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(documents);
            }
        }
    }

    /// Every document of a kind.
    pub(crate) async fn list<S: DocumentSpec>(
        &self,
        labels: &HashMap<String, String>,
    ) -> Result<Vec<Document<S>>, Exit> {
        let carried = self.list_carried(S::KIND, labels).await?;
        let read = |one: &Carried| Document::from_json(&one.json).map_err(Exit::failed);
        carried.iter().map(read).collect()
    }

    /// Writes a document in place of the one that was read.
    pub(crate) async fn update(&self, json: Vec<u8>, force: bool) -> Result<(), Exit> {
        let request = with_deadline(WriteRequest { json, force });
        self.client.resources().update(request).await.map(drop).map_err(client_exit)
    }

    /// Deletes a document.
    pub(crate) async fn delete(&self, kind: ApiKind, name: &str) -> Result<(), Exit> {
        let request = access_client::proto::DeleteRequest {
            kind: kind.as_str().into(),
            name: name.into(),
            revision: String::new(),
        };
        let deleted = self.client.resources().delete(with_deadline(request)).await;
        deleted.map(drop).map_err(client_exit)
    }
}

/// Whose certificates are shown, and the proxy that goes with them.
fn credentials(remote: &Remote, home: &Home) -> Result<(Option<HostPort>, Credentials), Exit> {
    if let Some(path) = &remote.identity {
        let credentials = identity_file(path)?;
        let proxy = match &remote.proxy {
            None if remote.auth_servers.is_empty() => {
                let current = home.profile(None)?;
                current.filter(|one| one.cluster == credentials.cluster).map(|one| one.proxy)
            }
            proxy => proxy.clone(),
        };
        return Ok((proxy, credentials));
    }
    let profile = home.profile(remote.proxy.as_ref())?.ok_or_else(|| not_logged_in(remote))?;
    let credentials = home.credentials(&profile)?;
    Ok((Some(profile.proxy), credentials))
}

fn not_logged_in(remote: &Remote) -> Exit {
    let proxy = remote.proxy.as_ref().map_or("HOST:PORT".to_owned(), ToString::to_string);
    let hint = match &remote.closed {
        Some(dir) => format!(
            ". On the Auth Service's own host no login is needed, but {} is not yours to read",
            dir.display()
        ),
        None => ", or give --data-dir DIR on the Auth Service's own host".to_owned(),
    };
    Exit::new(
        ExitCode::NotLoggedIn,
        format!("not logged in: run access login --proxy={proxy} --user=NAME{hint}"),
    )
}
