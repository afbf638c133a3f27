//! Certificates for users and servers. Keys are made here; only their public halves are sent.

use std::path::{Path, PathBuf};

use access_client::proto::{self, PublicKeys, SignHostRequest, SignUserRequest};
use access_client::types::{AuthoritySpec, DbProtocol};
use access_client::{Credentials, KeySet, certificate_pem, with_deadline};
use access_core::Timestamp;
use access_core::identity::{AuthorityKind, TrustedAuthority};
use access_core::tls::SharedKey;
use access_daemon::{Exit, note};
use rustls_pki_types::CertificateDer;
use ssh_key::Certificate;
use zeroize::Zeroizing;

use super::{moment, seconds};
use crate::cli::{SignArgs, SignFormat};
use crate::cluster::{Cluster, clock};
use crate::files;
use access_daemon::client_exit;

/// How much shorter than asked for certificates may be without a word: what is spent on the way.
const SLACK_SECONDS: i64 = 60;

/// What is to be signed, with everything checked that can be checked before.
#[derive(Debug)]
pub(super) struct Order {
    args: SignArgs,
    ttl_seconds: u64,
    paths: Vec<PathBuf>,
}

impl Order {
    pub(super) fn check(args: SignArgs) -> Result<Self, Exit> {
        let ttl_seconds = seconds(args.ttl)?;
        let suffixes: &[&str] = match args.format {
            SignFormat::File => &[""],
            SignFormat::Openssh => &["", "-cert.pub"],
            SignFormat::Tls | SignFormat::Db | SignFormat::Cockroachdb => &[".key", ".crt", ".cas"],
        };
        if database(args.format).is_some() && args.subject.user.is_some() {
            return Err(Exit::usage(
                "this format is for servers: name one with --host. Accounts of databases get \
                 their certificates from their agents",
            ));
        }
        let paths: Vec<_> = suffixes.iter().map(|suffix| beside(&args.out, suffix)).collect();
        files::check_free(&paths, args.overwrite)?;
        Ok(Self { args, ttl_seconds, paths })
    }

    async fn ask(&self, cluster: &Cluster, keys: PublicKeys) -> Result<proto::Credentials, Exit> {
        let mut admin = cluster.client().admin();
        let (keys, ttl_seconds) = (Some(keys), self.ttl_seconds);
        let answer = match &self.args.subject.user {
            Some(user) => {
                let request = SignUserRequest { user: user.clone(), keys, ttl_seconds };
                admin.sign_user(with_deadline(request)).await
            }
            None => {
                let names = self.args.subject.host.clone();
                let allow_wildcard = self.args.allow_wildcard;
                let database = database(self.args.format).map_or("", DbProtocol::as_str).to_owned();
                let request =
                    SignHostRequest { names, keys, ttl_seconds, database, allow_wildcard };
                admin.sign_host(with_deadline(request)).await
            }
        };
        Ok(answer.map_err(client_exit)?.into_inner())
    }
}

pub(crate) async fn sign(cluster: &Cluster, order: Order) -> Result<(), Exit> {
    let keys = KeySet::generate().map_err(client_exit)?;
    let public = keys.public().map_err(client_exit)?;
    let (contents, not_after) = match order.args.format {
        SignFormat::File => {
            let answer = order.ask(cluster, public).await?;
            let not_after = answer.not_after;
            let credentials = Credentials::from_answer(keys, answer).map_err(client_exit)?;
            (vec![credentials.to_identity_file().map_err(client_exit)?], not_after)
        }
        SignFormat::Openssh => {
            let answer = order.ask(cluster, PublicKeys { tls: Vec::new(), ..public }).await?;
            (openssh(&keys, &answer)?, answer.not_after)
        }
        SignFormat::Tls | SignFormat::Db | SignFormat::Cockroachdb => {
            let answer = order.ask(cluster, PublicKeys { ssh: String::new(), ..public }).await?;
            (tls(&order, &keys, &answer)?, answer.not_after)
        }
    };
    let contents = contents.iter().map(|content| content.as_bytes());
    let written: Vec<_> = order.paths.iter().cloned().zip(contents).collect();
    files::write_all(&written)?;
    tell(&order, Timestamp::from_millis(not_after));
    Ok(())
}

fn openssh(keys: &KeySet, answer: &proto::Credentials) -> Result<Vec<Zeroizing<String>>, Exit> {
    let certificate = Certificate::from_openssh(&answer.ssh_certificate)
        .map_err(|err| Exit::failed(format!("the certificate cannot be read: {err}")))?;
    if certificate.public_key() != keys.ssh.public_key().key_data() {
        return Err(other_key());
    }
    let certificate = certificate.to_openssh().map_err(Exit::failed)?;
    Ok(vec![
        keys.ssh_private_openssh().map_err(client_exit)?,
        Zeroizing::new(format!("{}\n", certificate.trim_end())),
    ])
}

fn tls(
    order: &Order,
    keys: &KeySet,
    answer: &proto::Credentials,
) -> Result<Vec<Zeroizing<String>>, Exit> {
    let chain: Vec<_> = answer.tls_chain.iter().cloned().map(CertificateDer::from).collect();
    if chain.is_empty() {
        return Err(Exit::failed("the answer holds no TLS certificate"));
    }
    // Fails unless the leaf is for the key that was made here.
    SharedKey::new(chain.clone(), keys.tls.to_rustls()).map_err(|_| other_key())?;
    let authorities = answer.authorities.iter().cloned().map(TrustedAuthority::try_from);
    let authorities: Vec<_> = authorities.collect::<Result<_, _>>().map_err(client_exit)?;
    // A user meets the cluster's hosts; a server meets users, and agents on their behalf; a
    // database meets accounts, and of CockroachDB also its other nodes.
    let met = |kind| match database(order.args.format) {
        Some(DbProtocol::Postgres) => kind == AuthorityKind::DbClient,
        Some(DbProtocol::Cockroachdb) => !AuthorityKind::proves_identities(kind),
        None => kind == AuthorityKind::Host || order.args.subject.user.is_none(),
    };
    let mut cas = Zeroizing::new(String::new());
    for authority in authorities.iter().filter(|authority| met(authority.kind)) {
        let spec = AuthoritySpec::try_from(authority).map_err(client_exit)?;
        cas.push_str(&spec.tls_roots.concat());
    }
    let chain = chain.iter().map(certificate_pem).collect::<String>();
    Ok(vec![keys.tls.to_pem(), Zeroizing::new(chain), cas])
}

fn other_key() -> Exit {
    Exit::failed("the certificate is for another key than the one that was sent: it is not used")
}

fn tell(order: &Order, not_after: Timestamp) {
    let paths: Vec<_> = order.paths.iter().map(|path| path.display().to_string()).collect();
    note(&format!("{} written, good until {}", paths.join(", "), moment(not_after)));
    if let Some(protocol) = database(order.args.format) {
        note(&set_up(protocol, &paths));
    }
    let asked = i64::try_from(order.ttl_seconds).unwrap_or(i64::MAX);
    let granted = not_after.as_secs() - clock().now().as_secs();
    if granted.saturating_add(SLACK_SECONDS) < asked {
        note("this is shorter than asked for: the user's roles or account allow no more");
    }
}

/// The database that a format is for.
const fn database(format: SignFormat) -> Option<DbProtocol> {
    match format {
        SignFormat::Db => Some(DbProtocol::Postgres),
        SignFormat::Cockroachdb => Some(DbProtocol::Cockroachdb),
        SignFormat::File | SignFormat::Openssh | SignFormat::Tls => None,
    }
}

/// What to do with the files of a database: key, certificate, authorities of its clients.
fn set_up(protocol: DbProtocol, paths: &[String]) -> String {
    let [key, certificate, authorities] = paths else { return String::new() };
    match protocol {
        DbProtocol::Postgres => format!(
            "In postgresql.conf, with files that the server's user can read:\n\n  \
             ssl = on\n  \
             ssl_cert_file = '{certificate}'\n  \
             ssl_key_file = '{key}'\n  \
             ssl_ca_file = '{authorities}'\n\n\
             In pg_hba.conf, before other lines for the same accounts:\n\n  \
             hostssl all all 0.0.0.0/0 cert clientcert=verify-full\n  \
             hostssl all all ::/0 cert clientcert=verify-full\n"
        ),
        DbProtocol::Cockroachdb => format!(
            "In the directory of --certs-dir, with mode 0600 for the key:\n\n  \
             cp {certificate} node.crt\n  \
             cp {key} node.key\n  \
             cp {authorities} ca-client.crt\n  \
             accessctl auth export --type=db > ca.crt\n\n\
             Where the cluster has authorities of its own, append to ca.crt and ca-client.crt \
             instead. Then start each node with `cockroach start --certs-dir=DIR`.\n"
        ),
    }
}

/// A path with something behind its last letter.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}
