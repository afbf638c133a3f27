//! A proxy altered to swap the keys that are certified at login, with the one thing that it cannot
//! have: a certificate of the pinned authority by which it answers for Auth. The client still finds
//! out that what comes back is not for its keys, or not for its user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use access_client::proto::entry_server::{Entry, EntryServer};
use access_client::{AuthClient, AuthEndpoint, KeySet, proto};
use access_core::time::ManualClock;
use access_core::tls::ServerTrust;
use access_core::{ClusterName, Timestamp};
use access_e2e::{Authorities, Cluster, Impostor, PASSWORD};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// What is altered on the way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Swap {
    Nothing,
    SshKey,
    TlsKey,
    User,
}

struct Altered {
    auth: AuthClient,
    swap: Swap,
}

#[tonic::async_trait]
impl Entry for Altered {
    async fn ping(
        &self,
        request: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingResponse>, Status> {
        self.auth.entry().ping(request.into_inner()).await
    }

    async fn login(
        &self,
        request: Request<proto::LoginRequest>,
    ) -> Result<Response<proto::Credentials>, Status> {
        let mut request = request.into_inner();
        let (keys, own) = (request.keys.as_mut().unwrap(), KeySet::generate().unwrap());
        let own = own.public().unwrap();
        match self.swap {
            Swap::Nothing => {}
            Swap::SshKey => keys.ssh = own.ssh,
            Swap::TlsKey => keys.tls = own.tls,
            Swap::User => request.user = "mallory".into(),
        }
        self.auth.entry().login(request).await
    }

    async fn redeem_invite(
        &self,
        _: Request<proto::RedeemInviteRequest>,
    ) -> Result<Response<proto::RedeemInviteResponse>, Status> {
        Err(Status::unimplemented("only logins are altered"))
    }

    async fn join(
        &self,
        _: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::Credentials>, Status> {
        Err(Status::unimplemented("only logins are altered"))
    }
}

fn auth(cluster: &Cluster) -> AuthClient {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let now = Timestamp::from_secs(i64::try_from(now).unwrap());
    AuthClient::new(AuthEndpoint {
        addresses: vec![cluster.proxy_addr.parse().unwrap()],
        cluster: ClusterName::new("example.com").unwrap(),
        trust: ServerTrust::Pins(vec![cluster.pin.parse().unwrap()]),
        key: None,
        clock: Arc::new(ManualClock::at(now)),
    })
    .unwrap()
}

#[test]
fn swapped_keys_and_users_are_found_out() {
    let cluster = Cluster::without_agent();
    for user in ["alice", "mallory"] {
        cluster.add_user(user, &["--roles=access", "--logins=root"]);
    }
    let authorities = Authorities::of(&cluster);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pin = format!("--ca-pin={}", cluster.pin);
    for (swap, told) in [
        (Swap::SshKey, "SSH certificate is for another key than the one sent"),
        (Swap::TlsKey, "TLS certificate is for another key than the one sent"),
        (Swap::User, "certificates are made out to mallory, not alice"),
        (Swap::Nothing, ""),
    ] {
        let tls = tokio_rustls::TlsAcceptor::from(authorities.mask_of_auth().server());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (taken, streams) = tokio::sync::mpsc::channel(4);
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let stream = tls.accept(tcp).await;
                if taken.send(stream).await.is_err() {
                    break;
                }
            }
        });
        let service = runtime.block_on(async { Altered { auth: auth(&cluster), swap } });
        let server = tonic::transport::Server::builder().add_service(EntryServer::new(service));
        let streams = tokio_stream::wrappers::ReceiverStream::new(streams);
        runtime.spawn(server.serve_with_incoming(streams));
        let impostor = Impostor::before(&cluster.proxy_addr).leads("auth.", &addr).start();

        let home = format!("home-of-{swap:?}");
        let proxy = format!("--proxy={}", impostor.addr);
        let args = ["login", &proxy, &pin, "--user=alice"];
        let done = cluster.access(&home, &args, &format!("{PASSWORD}\n"));
        if swap == Swap::Nothing {
            // Everything else is as it should be, so that it is the swap that is found out.
            done.ok();
            continue;
        }
        let done = done.fails(1, told);
        assert!(done.out.is_empty(), "{done:?}");
        let left = std::fs::read_dir(cluster.home(&home)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{swap:?}: something of it was kept");
    }
    // The attempt is on record: Auth did certify the attacker's key, for whoever's password it was.
    let logins = cluster.events(&["user.login"]);
    assert_eq!(logins.len(), 4, "{logins:#?}");
}
