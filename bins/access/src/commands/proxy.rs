//! Leading other programs through the proxy.

use access_client::TlsDialer;
use access_core::tls::{ALPN_SSH, ServerTrust};
use access_daemon::Exit;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cli::Global;
use crate::context::{Session, client_exit, clock};
use crate::openssh::{node_dns_name, split_login};

/// Read and written at once.
const CHUNK: usize = 128 * 1024;

/// Connects standard input and output with a node.
pub(crate) async fn ssh(global: &Global, node: &str) -> Result<(), Exit> {
    let session = Session::open(global)?;
    let (_, node) = split_login(node);
    let node = match node.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() && !name.contains(':') => name,
        _ => node,
    };
    let name = node_dns_name(node, &session.credentials.cluster)?;
    let trust = session.credentials.trust().map_err(client_exit)?;
    let key = session.credentials.shared_key().map_err(client_exit)?;
    let dialer =
        TlsDialer::new(ServerTrust::HostAuthority(trust), Some(key), clock(), &[ALPN_SSH])
            .map_err(client_exit)?;
    let server_name = ServerName::try_from(name.clone()).map_err(Exit::usage)?;
    let stream = dialer.connect(&session.proxy, server_name).await.map_err(|err| match err {
        access_client::ClientError::WrongPeer { why, .. } if why.contains("UnrecognisedName") => {
            Exit::new(
                access_daemon::ExitCode::Unreachable,
                format!("there is no node {node}, or its agent is not connected"),
            )
        }
        other => client_exit(other),
    })?;
    let (mut from_node, mut to_node) = tokio::io::split(stream);
    let up = async {
        let mut input = tokio::io::stdin();
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = input.read(&mut buffer).await?;
            if n == 0 {
                return to_node.shutdown().await;
            }
            to_node.write_all(buffer.get(..n).unwrap_or_default()).await?;
            to_node.flush().await?;
        }
    };
    let down = async {
        let mut output = tokio::io::stdout();
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = from_node.read(&mut buffer).await?;
            if n == 0 {
                return output.flush().await;
            }
            output.write_all(buffer.get(..n).unwrap_or_default()).await?;
            output.flush().await?;
        }
    };
    // The node's end is the end: nothing that is typed afterwards could reach it.
    let ended: std::io::Result<()> = tokio::select! {
        ended = down => ended,
        ended = async { up.await?; std::future::pending().await } => ended,
    };
    match ended {
        // The program behind the pipe has gone, which is how ssh ends.
        Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(err) => Err(Exit::failed(format!("the connection to {node} broke: {err}"))),
        Ok(()) => Ok(()),
    }
}
