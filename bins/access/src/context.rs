//! Whose credentials a command uses, and the way to the cluster.

use std::path::PathBuf;
use std::sync::Arc;

use access_client::{AuthClient, AuthEndpoint, Credentials, HostPort};
use access_core::time::Clock;
use access_daemon::{Exit, ExitCode, Home, Profile, client_exit, identity_file, parse_proxy};
use access_host::SystemClock;

use crate::cli::Global;
use crate::openssh::TemporaryFiles;
use crate::profile::write_tls_files;

/// Somebody who is logged in, or has an identity file.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) proxy: HostPort,
    pub(crate) credentials: Credentials,
    /// The login that they come from; none with an identity file.
    pub(crate) profile: Option<Profile>,
    pub(crate) home: Home,
}

/// The time.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

impl Session {
    /// Finds the credentials and makes sure that they still hold.
    pub(crate) fn open(global: &Global) -> Result<Self, Exit> {
        let session = Self::open_unchecked(global)?;
        session.credentials.check(clock().now()).map_err(client_exit)?;
        Ok(session)
    }

    /// Finds the credentials, expired or not.
    pub(crate) fn open_unchecked(global: &Global) -> Result<Self, Exit> {
        let home = Home::open(global.home.clone())?;
        let proxy = global.proxy.as_deref().map(parse_proxy).transpose()?;
        if let Some(path) = &global.identity {
            let credentials = identity_file(path)?;
            let proxy = match (proxy, home.profile(None)?) {
                (Some(proxy), _) => proxy,
                (None, Some(profile)) if profile.cluster == credentials.cluster => profile.proxy,
                _ => return Err(Exit::usage("an identity file needs --proxy HOST:PORT beside it")),
            };
            return Ok(Self { proxy, credentials, profile: None, home });
        }
        let profile = home.profile(proxy.as_ref())?.ok_or_else(|| {
            Exit::new(
                ExitCode::NotLoggedIn,
                "not logged in: run access login --proxy=HOST:PORT --user=NAME",
            )
        })?;
        let credentials = home.credentials(&profile)?;
        Ok(Self { proxy: profile.proxy.clone(), credentials, profile: Some(profile), home })
    }

    /// A client of the cluster's API.
    pub(crate) fn client(&self) -> Result<AuthClient, Exit> {
        let trust = self.credentials.trust().map_err(client_exit)?;
        let key = self.credentials.shared_key().map_err(client_exit)?;
        AuthClient::new(AuthEndpoint::authenticated(
            vec![self.proxy.clone()],
            self.credentials.cluster.clone(),
            trust,
            key,
            clock(),
        ))
        .map_err(client_exit)
    }

    /// The folder with key, certificate and authorities for programs that speak TLS; temporary
    /// with an identity file.
    pub(crate) fn tls_files(&self) -> Result<(PathBuf, Option<TemporaryFiles>), Exit> {
        let (folder, temporary) = self.openssh_files()?;
        if temporary.is_some() {
            write_tls_files(&folder, &self.credentials)?;
        }
        Ok((folder, temporary))
    }

    /// The folder with what OpenSSH needs; temporary with an identity file.
    pub(crate) fn openssh_files(&self) -> Result<(PathBuf, Option<TemporaryFiles>), Exit> {
        match &self.profile {
            Some(profile) => Ok((self.home.folder(&profile.proxy), None)),
            None => {
                let files = TemporaryFiles::write(&self.proxy, &self.credentials)?;
                Ok((files.folder().to_owned(), Some(files)))
            }
        }
    }
}
