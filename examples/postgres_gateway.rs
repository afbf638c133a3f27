//! A PostgreSQL gateway with a policy of one's own: nothing is dropped, nobody stays beyond an hour.
//! `users.crt` vouches for users, `gateway.crt` and `.key` are for them, `password` for the database.

use std::{sync::Arc, time::Duration};

use access_core::gate::{Gate, GateOptions, PolicySource};
use access_core::identity::{AuthorityKind::User, SharedTrust, TrustStore, TrustedAuthority};
use access_core::policy::{Action, Context, Decision, Grant, Reason, SessionLimits, Target};
use access_core::{audit::MemorySink, tls::SharedKey, *};
use access_host::{HostReach, SystemClock};
use access_postgres::{Database, DatabaseProtocol, Databases, Door, PostgresServer, TargetAuth};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{net::TcpListener, sync::watch};

struct Policy(watch::Sender<u64>);

#[rustfmt::skip]
impl PolicySource for Policy {
    fn decide(&self, _: &VerifiedIdentity, action: &Action, _: &Target, _: &Context, now: Timestamp) -> Decision {
        match action {
            Action::DatabaseStatement { command, .. } if command.starts_with("DROP") => Decision::Deny(Reason::Other("kept".into())),
            _ => Decision::Allow(Grant::within(SessionLimits::until(now.plus(Duration::from_secs(3600))))),
        }
    }
    fn fresh_at(&self) -> Option<Timestamp> { None }
    fn changes(&self) -> watch::Receiver<u64> { self.0.subscribe() }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (clock, audit) = (Arc::new(SystemClock), Arc::new(MemorySink::new(1_000_000)));
    let mut args = std::env::args().skip(1);
    let listener = TcpListener::bind(args.next().unwrap_or("127.0.0.1:6432".into())).await?;
    let target = args.next().unwrap_or("localhost:5432".into());
    let (id, cluster) = ("db/orders".parse::<ResourceRef>()?, ClusterName::new("example.com")?);
    let tls = vec![CertificateDer::from_pem_file("users.crt")?];
    let users = TrustedAuthority { kind: User, cluster: cluster.clone(), ssh: vec![], tls };
    let trust = Arc::new(SharedTrust::new(TrustStore::new(cluster, [users])?));
    let chain = CertificateDer::pem_file_iter("gateway.crt")?.collect::<Result<_, _>>()?;
    let key = Arc::new(SharedKey::new(chain, PrivateKeyDer::from_pem_file("gateway.key")?)?);
    let (protocol, auth) = (DatabaseProtocol::Postgres, TargetAuth::password_file("password"));
    let resource = Resource::new(id.clone(), [].into(), HostId::new("gateway")?);
    let database = Database { resource, protocol, tls: None, auth, admin_database: None };
    let policy = Arc::new(Policy(watch::Sender::new(0)));
    let gate = Gate::new(policy, audit.clone(), clock.clone(), GateOptions::default());
    let server = PostgresServer::builder()
        .gate(Arc::new(gate))
        .reach(Arc::new(HostReach::builder().route(id.clone(), target)?.build()?))
        .audit(audit)
        .clock(clock)
        .databases(Databases::new([database]))
        .build()?;
    let door = Door::new(server, id, key, trust)?;
    loop {
        let (stream, client) = listener.accept().await?;
        let door = door.clone();
        tokio::spawn(async move { door.serve(stream, Some(client)).await });
    }
}
