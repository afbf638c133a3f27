//! The web side: the ping, and pages that tell people which command to run.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What the ping tells, to anybody.
#[derive(Clone, Debug, Serialize)]
pub struct PingInfo {
    /// The cluster's name.
    pub cluster_name: String,
    /// This proxy's version.
    pub version: String,
    /// Where clients reach the proxies.
    pub public_addrs: Vec<String>,
    /// How one can log in.
    pub auth: PingAuth,
    /// The cluster's pins, for clients that verified this proxy's certificate publicly.
    pub ca_pins: Vec<String>,
}

/// How one can log in.
#[derive(Clone, Debug, Serialize)]
pub struct PingAuth {
    /// `local` for passwords.
    pub methods: Vec<String>,
}

impl PingInfo {
    /// A cluster with password login.
    pub fn new(cluster_name: impl Into<String>, public_addrs: Vec<String>) -> Self {
        Self {
            cluster_name: cluster_name.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            public_addrs,
            auth: PingAuth { methods: vec!["local".into()] },
            ca_pins: Vec::new(),
        }
    }
}

/// The pages of a proxy.
#[derive(Clone, Debug)]
pub struct WebPages {
    ping: Bytes,
}

/// How long one web connection may last: nothing here takes long.
const LONGEST: Duration = Duration::from_secs(120);

impl WebPages {
    /// Pages for a cluster.
    ///
    /// # Errors
    /// When the ping cannot be written as JSON.
    pub fn new(ping: &PingInfo) -> Result<Self, serde_json::Error> {
        Ok(Self { ping: serde_json::to_vec(ping)?.into() })
    }

    /// Serves one connection, HTTP/1.1 or 2.
    pub(crate) async fn serve<S>(self: Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .max_buf_size(32 * 1024);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(16);
        let served = builder.serve_connection(TokioIo::new(stream), service);
        // A client that breaks off is its own affair, and so is one that dawdles.
        drop(tokio::time::timeout(LONGEST, served).await);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let json = HeaderValue::from_static("application/json");
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        let (status, kind, body) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/webapi/ping") => (StatusCode::OK, json, self.ping.clone()),
            (&Method::GET, "/" | "/web" | "/web/") => (StatusCode::OK, text, HOME.into()),
            (&Method::GET, "/web/invite") => (StatusCode::OK, text, INVITE.into()),
            (_, "/webapi/ping" | "/" | "/web" | "/web/" | "/web/invite") => {
                (StatusCode::METHOD_NOT_ALLOWED, text, "only GET is served here\n".into())
            }
            _ => (StatusCode::NOT_FOUND, text, "there is no such page\n".into()),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, kind);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        response
    }
}

const HOME: &str = "This is an access proxy. Log in with:\n\n  access login --proxy=HOST:PORT \
                    --user=NAME\n";

const INVITE: &str = "You are invited. Copy the whole address of this page, then run:\n\n  \
                      access invite accept 'ADDRESS'\n\nThe password that you choose there goes \
                      to the cluster's auth service alone: this proxy cannot read it.\n";

/// Answers HTTP without TLS by a redirect to HTTPS at the host that the client asked for.
pub(crate) async fn redirect<S>(mut stream: S, deadline: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = async {
        let mut head = Vec::new();
        let mut limited = (&mut stream).take(16 * 1024);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if limited.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        let answer = match location(&head) {
            Some(location) => format!(
                "HTTP/1.1 308 Permanent Redirect\r\n{LOCATION}: {location}\r\n\
                 content-length: 0\r\nconnection: close\r\n\r\n"
            ),
            None => "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                .to_owned(),
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // Whoever does not wait for the answer did not want it.
    drop(tokio::time::timeout(deadline, exchange).await);
}

/// The same address with `https`. Only what cannot break out of a header line is repeated.
fn location(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let path = head.lines().next()?.split(' ').nth(1)?;
    let host = head.lines().skip(1).take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    })?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    let host_only =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    let good =
        path.starts_with('/') && plain(path) && !host.is_empty() && host.bytes().all(host_only);
    good.then(|| format!("https://{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_repeats_only_what_is_harmless() {
        let at = |head: &str| location(head.as_bytes());
        assert_eq!(
            at("GET /a?b HTTP/1.1\r\nHost: example.com:3080\r\n\r\n").unwrap(),
            "https://example.com:3080/a?b"
        );
        assert_eq!(at("GET / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(at("GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n"), None);
        assert_eq!(at("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), None);
    }
}
