//! A body that has to arrive in time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

/// A message's body, which fails when it has not ended by a deadline.
pub(super) struct Timely {
    body: Body,
    deadline: Pin<Box<Sleep>>,
}

impl Timely {
    /// The body, which has this long from now on.
    pub(super) fn new(body: Body, within: Duration) -> Self {
        Self { body, deadline: Box::pin(tokio::time::sleep(within)) }
    }
}

impl HttpBody for Timely {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // The deadline first: a body that comes byte by byte always has one.
        if self.deadline.as_mut().poll(cx).is_ready() {
            let late = Status::deadline_exceeded("the message did not arrive in time");
            return Poll::Ready(Some(Err(late)));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full, StreamBody};

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_fails() {
        let within = Duration::from_secs(10);
        let whole = Timely::new(Body::new(Full::new(Bytes::from_static(b"x"))), within);
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "x");

        let started = tokio::time::Instant::now();
        // A byte each second, for ever.
        let dripping = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, Status>(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        let dripping = Timely::new(Body::new(StreamBody::new(dripping)), within);
        let failed = dripping.collect().await.unwrap_err();
        assert_eq!(failed.code(), tonic::Code::DeadlineExceeded);
        assert!(started.elapsed() <= Duration::from_secs(11));
    }
}
