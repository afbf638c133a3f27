//! Health and metrics on `diag_addr`: `/livez`, `/readyz`, `/metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What a service still waits for before it is ready.
///
/// Clones are the same. It starts not ready and can become so and cease to be so any time.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Readiness {
    /// Notes that a part is not ready, and why.
    pub fn wait_for(&self, part: &'static str, why: impl Into<String>) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|(name, _)| *name != part);
        parts.push((part, why.into()));
    }

    /// Notes that a part is ready.
    pub fn ready(&self, part: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, _)| *name != part);
    }

    /// What is not ready; empty when everything is.
    pub fn missing(&self) -> Vec<String> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|(name, why)| format!("{name}: {why}")).collect()
    }
}

/// The server of health and metrics.
#[derive(Debug)]
pub struct Diagnostics {
    listener: TcpListener,
    handle: PrometheusHandle,
    readiness: Readiness,
}

/// Connections at once; the rest wait.
const MAX_CONNECTIONS: usize = 32;

impl Diagnostics {
    /// Binds the address and starts to collect metrics.
    ///
    /// # Errors
    /// When the address is in use, or another recorder of metrics is installed.
    pub async fn bind(addr: SocketAddr, readiness: Readiness) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await.map_err(|err| {
            std::io::Error::new(err.kind(), format!("cannot listen on diag_addr {addr}: {err}"))
        })?;
        let handle = PrometheusBuilder::new().install_recorder().map_err(std::io::Error::other)?;
        Ok(Self { listener, handle, readiness })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the future is dropped.
    pub async fn serve(self) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of file descriptors, most likely: give others the chance to close some.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (handle, readiness) = (self.handle.clone(), self.readiness.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(&request, &handle, &readiness);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let served = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10))
                    .serve_connection(TokioIo::new(stream), service);
                // A client that goes away in the middle is its own affair.
                drop(served.await);
                drop(slot);
            });
        }
    }
}

fn answer(
    request: &Request<Incoming>,
    handle: &PrometheusHandle,
    readiness: &Readiness,
) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/livez") => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET, "/readyz") => match readiness.missing() {
            missing if missing.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
            missing => (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n"),
        },
        (&Method::GET, "/metrics") => (StatusCode::OK, handle.render()),
        (_, "/livez" | "/readyz" | "/metrics") => {
            (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned())
        }
        _ => (StatusCode::NOT_FOUND, "try /livez, /readyz or /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}
