//! A reverse tunnel that carries any TCP service: `cargo run --example tunnel_any_tcp`.
//!
//! A service on a private network, an agent beside it that dials out, and a relay in public:
//! whoever connects to the relay reaches the service, though nothing listens but the relay and the
//! service itself. Here all three run in one process; the tunnel runs over any
//! `AsyncRead + AsyncWrite`, so put TLS with client certificates under it in earnest.
#![allow(clippy::print_stdout, reason = "an example that prints what came back")]
#![allow(clippy::disallowed_methods, reason = "no policy stands before this tunnel")]

use access_tunnel::{Config, Flavour, Handle, OpenHeader, RefuseCode, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result {
    let service = TcpListener::bind("127.0.0.1:0").await?;
    let service_addr = service.local_addr()?;
    tokio::spawn(shout(service));

    let (control, public) =
        (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let (control_addr, public_addr) = (control.local_addr()?, public.local_addr()?);
    tokio::spawn(async move {
        let (agent, _) = control.accept().await?;
        let (handle, _, driver) = Tunnel::server(agent, Config::opener());
        tokio::spawn(driver);
        relay(public, handle).await
    });
    tokio::spawn(agent(control_addr, service_addr));

    let mut client = TcpStream::connect(public_addr).await?;
    client.write_all(b"hello through the tunnel").await?;
    client.shutdown().await?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    println!("{answer}");
    assert_eq!(answer, "HELLO THROUGH THE TUNNEL");
    Ok(())
}

/// In public: every connection becomes a stream of the tunnel.
async fn relay(public: TcpListener, tunnel: Handle) -> Result {
    loop {
        let (mut client, from) = public.accept().await?;
        let mut header = OpenHeader::new("shout", Flavour::Raw);
        header.client_addr = Some(from);
        let mut stream = tunnel.open(header).await?;
        tokio::spawn(async move { copy_bidirectional(&mut client, &mut stream).await });
    }
}

/// Beside the service: dials out, and connects what comes in.
async fn agent(relay: std::net::SocketAddr, service: std::net::SocketAddr) -> Result {
    let (_, mut incoming, driver) = Tunnel::client(TcpStream::connect(relay).await?, Config::new());
    tokio::spawn(driver);
    while let Some(pending) = incoming.next().await {
        if pending.header().target != "shout" {
            pending.refuse(RefuseCode::UNKNOWN_TARGET, "only shout is served here");
            continue;
        }
        let mut target = TcpStream::connect(service).await?;
        let mut stream = pending.accept()?;
        tokio::spawn(async move { copy_bidirectional(&mut stream, &mut target).await });
    }
    Ok(())
}

/// The service: says everything again, louder.
async fn shout(listener: TcpListener) -> Result {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        stream.write_all(text.to_uppercase().as_bytes()).await?;
        stream.shutdown().await?;
    }
}
