//! Leading other programs through the proxy.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use access_client::{TlsDialer, dial_tcp};
use access_core::tls::{ALPN_SSH, ServerTrust};
use access_daemon::Exit;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::unix::pipe;

use crate::cli::Global;
use crate::context::{Session, clock};
use crate::openssh::{node_dns_name, split_login};
use access_daemon::client_exit;

/// How long the other end's last words are waited for once nothing can be sent to it.
const LAST_WORDS: Duration = Duration::from_secs(2);
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
    let dialer = TlsDialer::new(ServerTrust::HostAuthority(trust), Some(key), clock(), &[ALPN_SSH])
        .map_err(client_exit)?;
    let server_name = ServerName::try_from(name.clone()).map_err(Exit::usage)?;
    // TLS asks its transport for little at a time: what comes is read in large pieces before it.
    let tcp = dial_tcp(&session.proxy).await.map_err(client_exit)?;
    let tcp = BufReader::with_capacity(CHUNK, tcp);
    let connected = dialer.connect_over(tcp, &session.proxy, server_name).await;
    let stream = connected.map_err(|err| match err {
        access_client::ClientError::Unreachable { why, .. } if why == access_client::NOBODY => {
            Exit::new(
                access_daemon::ExitCode::Unreachable,
                format!("there is no node {node}, or its agent is not connected"),
            )
        }
        other => client_exit(other),
    })?;
    let (mut from_node, mut to_node) = tokio::io::split(stream);
    let (mut input, mut output) = standard_streams();
    let up = async {
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
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = read_what_is_there(&mut from_node, &mut buffer).await?;
            if n == 0 {
                return output.flush().await;
            }
            output.write_all(buffer.get(..n).unwrap_or_default()).await?;
            output.flush().await?;
        }
    };
    // The node's end is the end: nothing that is typed afterwards could reach it.
    let ended: io::Result<()> = tokio::select! {
        ended = down => ended,
        ended = async {
            let sent = up.await;
            if sent.is_ok() {
                std::future::pending::<()>().await;
            }
            // What cannot be sent any more may have been refused, and the words for it are on
            // their way.
            tokio::time::sleep(LAST_WORDS).await;
            sent
        } => ended,
    };
    match ended {
        // The program behind the pipe has gone, which is how ssh ends.
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(err) => Err(match access_client::ClientError::of_refusal(&err) {
            Some(refused) => client_exit(refused),
            None if err.kind() == io::ErrorKind::UnexpectedEof => {
                Exit::failed(format!("the connection to {node} broke: it ended without a word"))
            }
            None => Exit::failed(format!("the connection to {node} broke: {err}")),
        }),
        Ok(()) => Ok(()),
    }
}

/// Waits for something to read, and takes what more has come until the buffer is full: TLS gives a
/// record at a time, and each write wakes the reader behind it.
async fn read_what_is_there(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut buffer = ReadBuf::new(buffer);
    std::future::poll_fn(|cx| {
        while buffer.remaining() > 0 {
            let before = buffer.filled().len();
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                // An end, or an error, is found again by the next read.
                Poll::Pending | Poll::Ready(Err(_)) if before > 0 => break,
                read => ready!(read)?,
            }
            if buffer.filled().len() == before {
                break;
            }
        }
        Poll::Ready(Ok(buffer.filled().len()))
    })
    .await
}

type Input = Box<dyn AsyncRead + Unpin>;
type Output = Box<dyn AsyncWrite + Unpin>;

/// Standard input and output. Pipes, as `ssh` gives them, are awaited like sockets, each end being
/// this program's alone; anything else is read and written by threads, which costs a hand-over for
/// every chunk.
fn standard_streams() -> (Input, Output) {
    let input = io::stdin().as_fd().try_clone_to_owned().and_then(pipe::Receiver::from_owned_fd);
    let output = io::stdout().as_fd().try_clone_to_owned().and_then(pipe::Sender::from_owned_fd);
    (
        input.map_or_else(|_| Box::new(tokio::io::stdin()) as Input, |pipe| Box::new(pipe)),
        output.map_or_else(|_| Box::new(tokio::io::stdout()) as Output, |pipe| Box::new(pipe)),
    )
}
