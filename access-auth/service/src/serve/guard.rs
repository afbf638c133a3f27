//! What is decided before a byte of a message is read: strangers get to the entry alone, a bounded
//! number at once, of all and on each connection, and every message has to arrive in time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::timely::Timely;
use crate::caller::Peer;
use crate::options::Limits;
use crate::visit::Place;

/// Where strangers may call.
const ENTRY: &str = "/access.v1.Entry/";
/// The one call whose message is as long as it takes: it has deadlines of its own.
const UPLOAD: &str = "/access.v1.Recordings/Upload";

/// Guards the services of all connections.
#[derive(Clone)]
pub(crate) struct Guard {
    strangers: Arc<Semaphore>,
    deadline: Duration,
    /// For the messages of strangers.
    message: Duration,
}

impl Guard {
    /// How long after the deadline of the call itself its answer is given up: those of the API
    /// say more of why.
    const GRACE: Duration = Duration::from_secs(5);

    /// Bounds the calls of strangers that are open at once; each call is answered soon after its
    /// deadline, or begins to be when the answer is a stream.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            strangers: Arc::new(Semaphore::new(limits.strangers)),
            deadline: limits.call + Self::GRACE,
            message: limits.stranger_message,
        }
    }

    /// Places for a stranger's call: on its connection, and among all.
    fn place(&self, peer: Option<&Peer>) -> Option<(Place, OwnedSemaphorePermit)> {
        let of_connection = peer?.visit()?.place()?;
        let of_all = Arc::clone(&self.strangers).try_acquire_owned().ok()?;
        Some((of_connection, of_all))
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
        let peer = request.extensions().get::<Peer>();
        let stranger = peer.is_none_or(Peer::is_stranger);
        let place = match (stranger, path.starts_with(ENTRY)) {
            (true, false) => {
                return refuse(Status::unauthenticated(
                    "this needs a certificate of the cluster: log in",
                ));
            }
            (true, true) => match self.guard.place(peer) {
                Some(place) => Some(place),
                None => return refuse(Status::resource_exhausted("too many requests at once")),
            },
            (false, _) => None,
        };
        let unbounded = path == UPLOAD;
        let deadline = self.guard.deadline;
        let message = self.guard.message;
        let request = match stranger {
            true => request.map(|body| Body::new(Timely::new(body, message))),
            false => request,
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes calls and never answers.
    #[derive(Clone)]
    struct Silent;

    impl Service<Request<Body>> for Silent {
        type Response = Response<Body>;
        type Error = std::convert::Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test]
    async fn a_connection_has_its_own_places() {
        let limits = Limits { strangers: 3, strangers_per_connection: 2, ..Limits::default() };
        let mut guarded = Guard::new(&limits).layer(Silent);
        let mut call = |peer: &Peer| {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = "/access.v1.Entry/Ping".parse().unwrap();
            request.extensions_mut().insert(peer.clone());
            pending(guarded.call(request))
        };
        let (one, other) = (Peer::stranger(None, &limits), Peer::stranger(None, &limits));
        let first = call(&one).unwrap();
        let _second = call(&one).unwrap();
        assert!(call(&one).is_none(), "two on one connection");
        let _third = call(&other).unwrap();
        assert!(call(&other).is_none(), "three of all");
        drop(first);
        assert!(call(&one).is_some());
    }

    /// The call, unless it is answered at once.
    fn pending<F: Future + Unpin>(mut call: F) -> Option<F> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        Pin::new(&mut call).poll(&mut context).is_pending().then_some(call)
    }
}
