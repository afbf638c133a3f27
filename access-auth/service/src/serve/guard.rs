//! What is decided before a byte of a message is read: strangers get to the entry alone, a bounded
//! number at once, and every message has to arrive in time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::caller::Peer;

/// Where strangers may call.
const ENTRY: &str = "/access.v1.Entry/";
/// The one call whose message is as long as it takes: it has deadlines of its own.
const UPLOAD: &str = "/access.v1.Recordings/Upload";

/// Guards the services of all connections.
#[derive(Clone)]
pub(crate) struct Guard {
    strangers: Arc<Semaphore>,
    deadline: Duration,
}

impl Guard {
    /// At most `strangers` calls of strangers are open at once; each call is answered within
    /// `deadline`, or begins to be when the answer is a stream.
    pub(crate) fn new(strangers: usize, deadline: Duration) -> Self {
        Self { strangers: Arc::new(Semaphore::new(strangers)), deadline }
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let refuse = |status: Status| -> Self::Future {
            Box::pin(std::future::ready(Ok(status.into_http())))
        };
        let path = request.uri().path();
        let stranger = request.extensions().get::<Peer>().is_none_or(Peer::is_stranger);
        let place = match (stranger, path.starts_with(ENTRY)) {
            (true, false) => {
                return refuse(Status::unauthenticated(
                    "this needs a certificate of the cluster: log in",
                ));
            }
            (true, true) => match Arc::clone(&self.guard.strangers).try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => return refuse(Status::resource_exhausted("too many requests at once")),
            },
            (false, _) => None,
        };
        let unbounded = path == UPLOAD;
        let deadline = self.guard.deadline;
        let answer = self.inner.call(request);
        Box::pin(async move {
            let _place = place;
            if unbounded {
                return answer.await;
            }
            match tokio::time::timeout(deadline, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded("the call took too long").into_http()),
            }
        })
    }
}
