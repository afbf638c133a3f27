//! Where clients come from: Auth knows it of those whom a proxy leads to it, and certificates that
//! are bound to an address are good there and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use access_e2e::{Cluster, run};
use socket2::{Domain, SockAddr, Socket, Type};

const PINNED: &str = "kind: role\nversion: v1\nmetadata: { name: pinned }\nspec:\n  \
                      options: { pin_source_ip: true }\n";

/// A place in the network from which the users' connections go out: `127.0.0.N`.
struct Place {
    addr: String,
    last: Arc<AtomicU8>,
}

impl Place {
    /// Puts itself in front of the cluster's proxy, for all commands of users.
    fn before(cluster: &mut Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let proxy: SocketAddr = cluster.proxy_addr.parse().unwrap();
        let last = Arc::new(AtomicU8::new(1));
        let from = Arc::clone(&last);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let from = Ipv4Addr::new(127, 0, 0, from.load(Ordering::SeqCst));
                // A client that is gone is its own affair.
                drop(client.and_then(|client| lead(client, from, proxy)));
            }
        });
        cluster.proxy_addr = addr.clone();
        Self { addr, last }
    }

    /// From now on, connections come from here.
    fn is(&self, last: u8) {
        self.last.store(last, Ordering::SeqCst);
    }
}

fn lead(client: TcpStream, from: Ipv4Addr, to: SocketAddr) -> io::Result<()> {
    let server = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    server.bind(&SockAddr::from(SocketAddr::from((from, 0))))?;
    server.connect(&SockAddr::from(to))?;
    let server = TcpStream::from(server);
    for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        std::thread::spawn(move || {
            drop(io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Write));
        });
    }
    Ok(())
}

#[test]
fn auth_knows_where_users_come_from() {
    let mut cluster = Cluster::without_agent();
    let place = Place::before(&mut cluster);
    cluster.add_user("alice", &["--roles=access", "--logins=root"]);
    place.is(2);
    cluster.login("alice").ok();
    place.is(3);
    cluster.login("alice").ok();
    let logins = cluster.events(&["user.login"]);
    let from: Vec<&str> = logins
        .iter()
        .map(|event| event["addr.remote"].as_str().unwrap_or_default())
        .map(|addr| addr.rsplit_once(':').unwrap_or((addr, "")).0)
        .collect();
    assert_eq!(from, ["127.0.0.2", "127.0.0.3"], "{logins:#?}");
    assert_eq!(place.addr, cluster.proxy_addr);
}

#[test]
fn a_certificate_that_is_bound_to_an_address_is_good_there_and_nowhere_else() {
    let mut cluster = Cluster::start();
    let place = Place::before(&mut cluster);
    cluster.ctl(&["create", "-f", "-"], PINNED).ok();
    cluster.add_user("alice", &["--roles=access,pinned", "--logins=root"]);
    place.is(2);
    cluster.login("alice").ok();
    let config = cluster.ssh_config("alice");
    let ssh = |more: &[&str]| {
        let mut args = vec!["-o", "BatchMode=yes"];
        args.extend(more);
        args.extend(["root@web-1.node.example.com", "echo reached"]);
        run(&mut cluster.ssh(&config, &args), "")
    };
    assert_eq!(cluster.access("alice", &["ls"], "").ok().code, 0);
    assert_eq!(ssh(&[]).ok().out, "reached\n");

    place.is(3);
    let elsewhere = "may not be used from this address";
    cluster.access("alice", &["ls"], "").fails(3, elsewhere);
    let done = ssh(&[]);
    assert!(done.code == 255 && done.out.is_empty(), "{done:?}");
    // The same certificate is good again where it belongs, and a new one where it is asked for.
    place.is(2);
    assert_eq!(ssh(&[]).ok().out, "reached\n");
    place.is(3);
    cluster.login("alice").ok();
    assert_eq!(ssh(&[]).ok().out, "reached\n");
}
