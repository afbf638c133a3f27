//! Certificates: for users by their roles, for hosts by what they own, for servers outside.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use access_ca::{
    HostDraft, IssuingPolicy, SanName, ServerDraft, Signed, SshPermissions, UserDraft,
};
use access_client::proto;
use access_client::types::UserDocument;
use access_core::audit::events::CertCreate;
use access_core::audit::{AuditSink, Durability, Object};
use access_core::identity::{Identity, Service, SourcePin, Subject, TrustedAuthority};
use access_core::policy::{certificate_limits, logins_for};
use access_core::{HostId, Login, ResourceRef, Timestamp, UserName, Validity};
use ssh_key::public::KeyData;

use crate::error::{Error, Result};
use crate::secrets;
use crate::service::AuthService;

/// How long a user's certificate holds when nobody asks for another time.
const USER_TTL: Duration = Duration::from_secs(12 * 3600);
/// What the principal begins with of users who have no login; random digits follow.
const NO_LOGIN: &str = "no-login-";

/// Keys to be certified, read.
pub(crate) struct Keys {
    ssh: Option<KeyData>,
    pub(crate) tls: Option<Vec<u8>>,
}

impl Keys {
    /// Reads the keys of a request.
    pub(crate) fn read(keys: Option<proto::PublicKeys>) -> Result<Self> {
        let proto::PublicKeys { ssh, tls } = keys.unwrap_or_default();
        if ssh.is_empty() && tls.is_empty() {
            return Err(access_ca::Error::NoKey.into());
        }
        let ssh = (!ssh.is_empty()).then(|| access_ca::parse_ssh_key(&ssh)).transpose()?;
        if !tls.is_empty() {
            access_ca::check_tls_key(&tls)?;
        }
        Ok(Self { ssh, tls: (!tls.is_empty()).then_some(tls) })
    }

    /// Tells keys apart: the same keys have the same digest.
    pub(crate) fn digest(&self) -> Result<String> {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(b"access host keys\0");
        if let Some(ssh) = &self.ssh {
            context.update(access_ca::openssh_line(ssh)?.as_bytes());
        }
        context.update(&[0]);
        context.update(self.tls.as_deref().unwrap_or_default());
        Ok(data_encoding::HEXLOWER.encode(context.finish().as_ref()))
    }
}

/// What a host's certificates are to say.
pub(crate) struct HostGrant {
    pub(crate) id: HostId,
    pub(crate) services: BTreeSet<Service>,
    pub(crate) resources: Vec<ResourceRef>,
    pub(crate) public_names: Vec<SanName>,
    pub(crate) generation: u64,
}

impl AuthService {
    /// Certificates for a user, as long and as wide as their roles allow. `asked` is the time they
    /// ask for, `from` their address.
    pub(crate) async fn issue_user(
        &self,
        user: &UserDocument,
        keys: Keys,
        asked: Option<Duration>,
        from: Option<IpAddr>,
    ) -> Result<proto::Credentials> {
        let now = self.now();
        let name = UserName::new(&user.metadata.name)?;
        let snapshot = self.inner.live.policy().snapshot();
        let roles: Vec<_> =
            user.spec.roles.iter().filter(|role| snapshot.has_role(role)).cloned().collect();
        let limits = certificate_limits(&snapshot, &roles);
        if limits.max_ttl.is_zero() {
            return Err(Error::Denied(format!(
                "no certificate can be issued to {name}: one of their roles cannot be read"
            )));
        }
        let subject = Subject::User { name: name.clone() };
        let mut identity = Identity::new(self.cluster().clone(), subject, now);
        identity.logins = logins_for(&snapshot, &roles, &user.spec.traits).into_iter().collect();
        identity.roles = roles;
        identity.traits = user.spec.traits.clone();
        if limits.pin_source_ip {
            let from = from.ok_or_else(|| {
                Error::Denied("a role demands certificates that are bound to an address".into())
            })?;
            identity.source_pin = Some(SourcePin::address(from));
        }
        if identity.logins.is_empty() {
            // A certificate without principals would be good for everybody, and none at all would
            // keep an auditor from logging in: so one that is no account anywhere.
            let suffix = data_encoding::HEXLOWER.encode(&secrets::random::<8>()?);
            identity.logins.push(Login::new(format!("{NO_LOGIN}{suffix}"))?);
        }
        let mut draft = UserDraft::new(identity, asked.unwrap_or(USER_TTL));
        draft.ssh_public_key = keys.ssh;
        draft.tls_public_key = keys.tls;
        draft.issued_from = Some(user.spec.valid_after);
        draft.ssh_permissions = SshPermissions {
            pty: limits.permit_pty,
            port_forwarding: limits.permit_port_forwarding,
            agent_forwarding: limits.permit_agent_forwarding,
        };
        let mut policy = IssuingPolicy::new(now, limits.max_ttl);
        policy.not_after = user.metadata.expires;
        let signed = draft.vet(&policy)?.sign(&self.inner.live.authorities().user)?;
        self.record("user", name.as_str(), &signed).await?;
        self.credentials(&signed, None)
    }

    /// Certificates for a host of the cluster.
    pub(crate) async fn issue_host(
        &self,
        grant: HostGrant,
        keys: Keys,
    ) -> Result<proto::Credentials> {
        let HostGrant { id, services, resources, public_names, generation } = grant;
        let now = self.now();
        let subject = Subject::Host { id: id.clone(), services, resources };
        let mut identity = Identity::new(self.cluster().clone(), subject, now);
        identity.generation = generation;
        let ttl = self.inner.limits.host_ttl;
        let mut draft = HostDraft::new(identity, ttl)?;
        for name in public_names {
            draft.add_name(name);
        }
        draft.ssh_public_key = keys.ssh;
        draft.tls_public_key = keys.tls;
        let policy = IssuingPolicy::new(now, ttl);
        let signed = draft.vet(&policy)?.sign(&self.inner.live.authorities().host)?;
        self.record("host", id.as_str(), &signed).await?;
        self.credentials(&signed, Some(&id))
    }

    /// Certificates for a server that is no member of the cluster: `sshd`, a database. The TLS
    /// certificate carries no identity; the SSH certificate one that may do nothing.
    pub(crate) async fn issue_server(
        &self,
        names: Vec<SanName>,
        keys: Keys,
        ttl: Duration,
    ) -> Result<proto::Credentials> {
        let now = self.now();
        let policy = IssuingPolicy::new(now, ttl);
        let authorities = self.inner.live.authorities();
        let shown = names.first().map(ToString::to_string).unwrap_or_default();
        let mut credentials = None;
        if let Some(key) = keys.ssh {
            let subject = Subject::Host {
                id: HostId::from_random(secrets::random()?),
                services: BTreeSet::new(),
                resources: Vec::new(),
            };
            let identity = Identity::new(self.cluster().clone(), subject, now);
            let mut draft = HostDraft::new(identity, ttl)?;
            draft.names.clear();
            draft.ssh_principals.clear();
            for name in names.clone() {
                draft.add_name(name);
            }
            draft.ssh_public_key = Some(key);
            let signed = draft.vet(&policy)?.sign(&authorities.host)?;
            self.record("host", &shown, &signed).await?;
            credentials = Some(self.credentials(&signed, None)?);
        }
        if let Some(key) = keys.tls {
            let cluster = self.cluster().clone();
            let draft = ServerDraft { cluster, names, tls_public_key: key, ttl };
            let signed = draft.vet(&policy)?.sign(&authorities.host)?;
            self.record("host", &shown, &signed).await?;
            let tls = self.credentials(&signed, None)?;
            credentials = Some(match credentials {
                Some(ssh) => proto::Credentials { tls_chain: tls.tls_chain, ..ssh },
                None => tls,
            });
        }
        credentials.ok_or_else(|| access_ca::Error::NoKey.into())
    }

    fn credentials(&self, signed: &Signed, host: Option<&HostId>) -> Result<proto::Credentials> {
        let authorities = self.inner.live.authorities();
        self.credentials_with(signed, host, &authorities.trusted())
    }

    /// Certificates, and what their holder is to trust.
    pub(crate) fn credentials_with(
        &self,
        signed: &Signed,
        host: Option<&HostId>,
        authorities: &[&TrustedAuthority],
    ) -> Result<proto::Credentials> {
        let authorities = authorities.iter().map(|one| public(one)).collect::<Result<_>>()?;
        Ok(proto::Credentials {
            ssh_certificate: signed.ssh_openssh()?.unwrap_or_default(),
            tls_chain: signed.tls_chain().into_iter().map(|cert| cert.to_vec()).collect(),
            authorities,
            cluster_name: self.cluster().as_str().to_owned(),
            not_before: signed.validity().not_before().as_millis(),
            not_after: signed.validity().not_after().as_millis(),
            host_id: host.map(ToString::to_string).unwrap_or_default(),
        })
    }

    /// Writes down that a certificate exists, before it is handed out.
    async fn record(&self, cert_type: &str, name: &str, signed: &Signed) -> Result<()> {
        self.record_with(cert_type, [("user", name)], signed).await
    }

    /// The same, with more to say of whom it is for.
    pub(crate) async fn record_with(
        &self,
        cert_type: &str,
        said: impl IntoIterator<Item = (&str, &str)>,
        signed: &Signed,
    ) -> Result<()> {
        let mut about = Object::default();
        let mut set = |key: &str, value: serde_json::Value| about.0.insert(key.into(), value);
        for (key, value) in said {
            set(key, value.into());
        }
        if let Some(identity) = signed.identity() {
            let texts = |texts: Vec<&str>| texts.into_iter().take(128).collect::<Vec<_>>().into();
            if !identity.roles.is_empty() {
                set("roles", texts(identity.roles.iter().map(|role| role.as_str()).collect()));
            }
            if !identity.logins.is_empty() {
                set("logins", texts(identity.logins.iter().map(|l| l.as_str()).collect()));
            }
        }
        let validity: Validity = signed.validity();
        set("expires", expires(validity.not_after()));
        if let Some(ssh) = signed.ssh() {
            set("serial", ssh.serial().to_string().into());
        }
        if let Some(serial) = signed.tls_serial() {
            set("tls_serial", data_encoding::HEXLOWER.encode(&serial).into());
        }
        let event = CertCreate { cert_type: cert_type.into(), identity: about };
        Ok(self.inner.audit.accept(event.into(), Durability::Synced).await?)
    }
}

/// The public half of an authority, as the API carries it.
pub(crate) fn public(authority: &TrustedAuthority) -> Result<proto::Authority> {
    proto::Authority::try_from(authority).map_err(|err| Error::stored("authority", err))
}

fn expires(moment: Timestamp) -> serde_json::Value {
    moment.to_string().into()
}
