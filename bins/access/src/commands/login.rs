//! Logging in and out.

use std::path::Path;

use access_client::{
    AuthClient, AuthEndpoint, ClientError, Credentials, FirstTrust, HostPort, KeySet, Ping, ping,
};
use access_core::ClusterName;
use access_core::identity::SpkiPin;
use access_core::tls::ServerTrust;
use access_daemon::{
    Exit, Home, Profile, client_exit, config::Span, parse_proxy, print, read_secret,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::cli::{FirstTrustArgs, Global};
use crate::context::{Session, clock};
use crate::profile;

/// A cluster that proved by its pinned key who it is, before anybody is logged in.
pub(crate) struct Contact {
    pub(crate) proxy: HostPort,
    pub(crate) cluster: ClusterName,
    pub(crate) pins: Vec<SpkiPin>,
    pub(crate) client: AuthClient,
}

pub(crate) async fn login(
    global: &Global,
    trust: &FirstTrustArgs,
    ttl: Option<Span>,
) -> Result<(), Exit> {
    let home = Home::open(global.home.clone())?;
    let given = global.proxy.as_deref().map(parse_proxy).transpose()?;
    let known = home.profile(given.as_ref())?;
    let proxy = given
        .or_else(|| known.as_ref().map(|profile| profile.proxy.clone()))
        .ok_or_else(|| Exit::usage("which cluster? say --proxy=HOST:PORT"))?;
    let user = global
        .user
        .clone()
        .or_else(|| known.as_ref().map(|profile| profile.user.clone()))
        .ok_or_else(|| Exit::usage("who are you? say --user=NAME"))?;
    let pins = pins(trust, known.as_ref())?;
    // The keys are there before anything is sent, so that whatever certifies another is found out.
    let keys = KeySet::generate().map_err(client_exit)?;
    let contact = Contact::make(proxy, pins).await?;
    contact.is_the_one_known(known.as_ref())?;
    let password = read_secret(&format!("Password of {user} in {}: ", contact.cluster))?;
    let credentials = contact
        .client
        .login(&user, &password, keys, ttl.map(|ttl| ttl.0))
        .await
        .map_err(client_exit)?;
    contact.prove(&credentials)?;
    let until = credentials.validity.not_after();
    let profile = Profile {
        proxy: contact.proxy,
        cluster: contact.cluster,
        user: user.clone(),
        ca_pins: contact.pins,
    };
    profile::save(&home, &profile, &credentials)?;
    print(&format!("Logged in to {} as {user}, until {until}.\n", profile.cluster))
}

pub(crate) async fn logout(global: &Global) -> Result<(), Exit> {
    let session = Session::open_unchecked(global)?;
    let told = match session.credentials.check(clock().now()) {
        // What has expired needs not be made void.
        Err(_) => Ok(()),
        Ok(()) => {
            let request = access_client::proto::LogoutRequest {};
            let client = session.client()?;
            let mut identity = client.identity();
            let logout = identity.logout(access_client::with_deadline(request));
            logout.await.map(drop).map_err(ClientError::from)
        }
    };
    super::db::forget_all(&session)?;
    if let Some(profile) = &session.profile {
        profile::forget(&session.home, profile)?;
    }
    match told {
        Ok(()) => print(&format!("Logged out of {}.\n", session.credentials.cluster)),
        Err(err @ ClientError::Unreachable { .. }) => Err(Exit::failed(format!(
            "the files here are removed, but the certificates hold until {}: {err}",
            session.credentials.validity.not_after()
        ))),
        Err(err) => Err(client_exit(err)),
    }
}

/// The pins that were given, or are known from an earlier login; none when there are none.
fn pins(trust: &FirstTrustArgs, known: Option<&Profile>) -> Result<Vec<SpkiPin>, Exit> {
    if let Some(path) = &trust.ca_file {
        return pins_of_file(path);
    }
    if !trust.ca_pin.is_empty() {
        let pins = trust.ca_pin.iter().flat_map(|text| text.split(','));
        return pins.map(|pin| pin.parse().map_err(Exit::usage)).collect();
    }
    Ok(known.map(|profile| profile.ca_pins.clone()).unwrap_or_default())
}

fn pins_of_file(path: &Path) -> Result<Vec<SpkiPin>, Exit> {
    let error = |err: String| Exit::failed(format!("{}: {err}", path.display()));
    let pins = CertificateDer::pem_file_iter(path)
        .map_err(|err| error(err.to_string()))?
        .map(|cert| {
            let cert = cert.map_err(|err| error(err.to_string()))?;
            SpkiPin::of_certificate(&cert).map_err(|err| error(err.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if pins.is_empty() { Err(error("there is no certificate in it".into())) } else { Ok(pins) }
}

impl Contact {
    /// Finds out which cluster a proxy belongs to, and has its Auth Service prove to be that one.
    /// Without a pin the proxy's publicly verified certificate is trusted, once.
    pub(crate) async fn make(proxy: HostPort, pins: Vec<SpkiPin>) -> Result<Self, Exit> {
        let first = match pins.as_slice() {
            [] => FirstTrust::Public,
            _ => FirstTrust::Pins(pins.clone()),
        };
        let answer = ping(&proxy, &first, clock()).await.map_err(|err| match err {
            err @ ClientError::WrongPeer { .. } if pins.is_empty() => Exit::new(
                access_daemon::ExitCode::Unreachable,
                format!("{err}; a first login to a cluster of its own authority needs --ca-pin"),
            ),
            err => client_exit(err),
        })?;
        let pins = if pins.is_empty() { seen(&proxy, &answer)? } else { pins };
        let client = AuthClient::new(AuthEndpoint {
            addresses: vec![proxy.clone()],
            cluster: answer.cluster_name.clone(),
            trust: ServerTrust::Pins(pins.clone()),
            key: None,
            clock: clock(),
        })
        .map_err(client_exit)?;
        let proved = client.ping(clock().now()).await.map_err(client_exit)?;
        if proved.cluster_name != answer.cluster_name.as_str() {
            return Err(Exit::failed(format!(
                "the proxy speaks of cluster {}, its auth service of {}",
                answer.cluster_name, proved.cluster_name
            )));
        }
        Ok(Self { proxy, cluster: answer.cluster_name, pins, client })
    }

    /// Makes sure that a proxy that was logged in to before still leads to the same cluster.
    fn is_the_one_known(&self, known: Option<&Profile>) -> Result<(), Exit> {
        match known.filter(|profile| profile.proxy == self.proxy) {
            Some(profile) if profile.cluster != self.cluster => Err(Exit::failed(format!(
                "{} led to cluster {} before, and now to {}: if that is meant, remove its folder \
                 in ACCESS_HOME first",
                self.proxy, profile.cluster, self.cluster
            ))),
            _ => Ok(()),
        }
    }

    /// Makes sure that the authorities which came with certificates are those of the pins.
    fn prove(&self, credentials: &Credentials) -> Result<(), Exit> {
        let mut theirs = Vec::new();
        for authority in credentials.host_authority() {
            theirs.extend(authority.pins().map_err(Exit::failed)?);
        }
        if theirs.iter().any(|pin| self.pins.contains(pin)) {
            Ok(())
        } else {
            Err(Exit::failed("the cluster answered with another authority than the pinned one"))
        }
    }
}

/// Trust on the word of a publicly verified certificate, said aloud.
fn seen(proxy: &HostPort, answer: &Ping) -> Result<Vec<SpkiPin>, Exit> {
    let pins: Vec<SpkiPin> = answer
        .ca_pins
        .iter()
        .map(|pin| pin.parse().map_err(Exit::failed))
        .collect::<Result<_, _>>()?;
    if pins.is_empty() {
        return Err(Exit::failed(format!("{proxy} tells no CA pin: give one with --ca-pin")));
    }
    let list = pins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    access_daemon::note(&format!(
        "No CA pin was given: the publicly verified certificate of {} is trusted this once, and \
         {list} is pinned from now on.",
        proxy.host()
    ));
    Ok(pins)
}
