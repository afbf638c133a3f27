//! The first contact: what a proxy says of its cluster, before anything is known.

use access_core::identity::SpkiPin;
use access_core::ids::ClusterName;
use access_core::time::Clock;
use access_core::tls::{ALPN_HTTP1, ServerTrust};
use rustls::RootCertStore;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::address::HostPort;
use crate::dial::TlsDialer;
use crate::error::{ClientError, causes};

/// The answer to `GET /webapi/ping`.
///
/// Nothing in it is trusted: it says which name to ask for, and whoever answers under that name
/// has to prove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The cluster's name.
    pub cluster_name: ClusterName,
    /// The proxy's version.
    pub version: String,
    /// Where clients reach the cluster's proxies, `HOST:PORT`.
    #[serde(default)]
    pub public_addrs: Vec<String>,
    /// How one can log in.
    #[serde(default)]
    pub auth: PingAuth,
    /// The cluster's pins. They count only when the proxy's certificate was publicly verified.
    #[serde(default)]
    pub ca_pins: Vec<String>,
}

/// How one can log in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingAuth {
    /// `local` for passwords, and the names of connectors.
    pub methods: Vec<String>,
}

/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// How a proxy that was never spoken to proves who it is.
#[derive(Clone, Debug)]
pub enum FirstTrust {
    /// By the cluster's pinned key; a certificate of a public authority is good for the ping too,
    /// since what the ping says is proved later, by the pin.
    Pins(Vec<SpkiPin>),
    /// By a certificate of an authority that this machine trusts, or one of these files' roots.
    Public,
}

/// Asks a proxy which cluster it belongs to.
///
/// # Errors
/// [`ClientError::Unreachable`], [`ClientError::WrongPeer`], [`ClientError::Untimely`], or
/// [`ClientError::Malformed`] when what answers is no proxy of this kind.
pub async fn ping(
    proxy: &HostPort,
    trust: &FirstTrust,
    clock: Arc<dyn Clock>,
) -> Result<Ping, ClientError> {
    let name = proxy.server_name()?;
    let mut stream = match trust {
        FirstTrust::Public => {
            let dialer = dialer(ServerTrust::Roots(public_roots()), &clock)?;
            dialer.connect(proxy, name).await?
        }
        FirstTrust::Pins(pins) => {
            let pinned = dialer(ServerTrust::Pins(pins.clone()), &clock)?;
            match pinned.connect(proxy, name.clone()).await {
                Err(wrong @ ClientError::WrongPeer { .. }) => {
                    // The pinned authority did not make the proxy's web certificate; a public
                    // one may have. The error that counts for the user is the pin's.
                    let public = dialer(ServerTrust::Roots(public_roots()), &clock)?;
                    public.connect(proxy, name).await.map_err(|err| match err {
                        ClientError::Untimely { .. } => err,
                        _ => wrong,
                    })?
                }
                other => other?,
            }
        }
    };
    let request = format!(
        "GET /webapi/ping HTTP/1.1\r\nHost: {proxy}\r\nAccept: application/json\r\n\
         Connection: close\r\n\r\n"
    );
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        (&mut stream).take(MAX_ANSWER).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(crate::dial::CONNECT_DEADLINE, exchange)
        .await
        .map_err(|_| ClientError::Unreachable {
            address: proxy.to_string(),
            why: "no answer to the ping in time".into(),
        })?
        .map_err(|err| ClientError::Unreachable {
            address: proxy.to_string(),
            why: causes(&err),
        })?;
    parse(&answer).ok_or_else(|| {
        ClientError::Malformed(format!("{proxy} is no access proxy: it does not answer a ping"))
    })
}

fn dialer(trust: ServerTrust, clock: &Arc<dyn Clock>) -> Result<TlsDialer, ClientError> {
    TlsDialer::new(trust, None, Arc::clone(clock), &[ALPN_HTTP1])
}

/// The body of a `200` answer with a plain body, as proxies send it to `Connection: close`.
fn parse(answer: &[u8]) -> Option<Ping> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.lines().next()?.split(' ').nth(1)?;
    (status == "200").then(|| serde_json::from_str(body).ok()).flatten()
}

/// What this machine trusts.
fn public_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    Arc::new(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_is_one() {
        let body = r#"{"cluster_name":"example.com","version":"0.1.0"}"#;
        let ok = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        assert_eq!(parse(ok.as_bytes()).unwrap().cluster_name.as_str(), "example.com");
        for bad in ["", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 404 No\r\n\r\n{}", "SSH-2.0-x\r\n\r\n"]
        {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
