//! The addresses of one service, and the connection that is in use.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use access_core::spread::Spread;
use access_core::time::Clock;
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::address::HostPort;
use crate::dial::{CONNECT_DEADLINE, TlsDialer};
use crate::error::ClientError;

/// Addresses of one service, tried from one that is drawn at random on; see [`Spread`].
pub(crate) struct Ways {
    addresses: Vec<HostPort>,
    spread: Spread,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<(usize, CancellationToken)>>,
}

impl Ways {
    pub(crate) fn new(addresses: Vec<HostPort>, clock: Arc<dyn Clock>) -> Self {
        let spread = Spread::new(addresses.len());
        Self { addresses, spread, clock, current: Mutex::new(None) }
    }

    /// Connects to the first that answers, and proves to be `name`.
    pub(crate) async fn connect(
        &self,
        dialer: &TlsDialer,
        name: &ServerName<'static>,
    ) -> Result<Line<TlsStream<TcpStream>>, ClientError> {
        let (way, stream) = reach(&self.spread, &self.addresses, &*self.clock, |address| {
            let name = name.clone();
            async move { dialer.connect(&address, name).await }
        })
        .await?;
        let cut = CancellationToken::new();
        let line = Line { stream, cut: Box::pin(cut.clone().cancelled_owned()) };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((way, cut));
        Ok(line)
    }

    /// Cuts the connection that is in use, and has its address be tried last for a while.
    pub(crate) fn fail_over(&self) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((way, cut)) = current {
            self.spread.failed(way, self.clock.now(), draw());
            cut.cancel();
        }
    }
}

/// Tries each of some addresses, from one that is drawn at random on, until one answers.
///
/// # Errors
/// That of a single address as it is; of several, one that names each with its cause.
pub async fn reach_any<T, F>(
    addresses: &[HostPort],
    clock: &dyn Clock,
    attempt: impl Fn(HostPort) -> F,
) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let (_, done) = reach(&Spread::new(addresses.len()), addresses, clock, attempt).await?;
    Ok(done)
}

async fn reach<T, F>(
    spread: &Spread,
    addresses: &[HostPort],
    clock: &dyn Clock,
    attempt: impl Fn(HostPort) -> F,
) -> Result<(usize, T), ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let one = |way: usize| {
        let address = addresses.get(way).cloned();
        let attempt = address.clone().map(&attempt);
        async move {
            let (Some(address), Some(attempt)) = (address, attempt) else {
                return Err(ClientError::Invalid("no address".into()));
            };
            match tokio::time::timeout(CONNECT_DEADLINE, attempt).await {
                Ok(done) => done,
                Err(_) => Err(ClientError::Unreachable {
                    address: address.to_string(),
                    why: format!("no answer within {} s", CONNECT_DEADLINE.as_secs()),
                }),
            }
        }
    };
    spread.reach(clock, draw(), one).await.map_err(|failures| {
        let named = |(way, err): (usize, _)| Some((addresses.get(way)?.clone(), err));
        ClientError::of_all(failures.into_iter().filter_map(named).collect())
    })
}

/// Random bits; without randomness all clients choose alike, no more.
fn draw() -> u64 {
    let mut bytes = [0; 8];
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// Between a half and the whole of it, so that those who lost one service do not keep step.
pub(crate) fn jittered(pause: std::time::Duration) -> std::time::Duration {
    pause / 2 + pause.mul_f64((draw() >> 11) as f64 / (1_u64 << 53) as f64 / 2.0)
}

/// A connection that can be cut by who does not hold it.
pub(crate) struct Line<S> {
    stream: S,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Line<S> {
    fn check(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(std::io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.check(cx).is_err() {
            // Whoever is at the other end does not answer a farewell either.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_line_that_is_cut_wakes_its_reader_and_takes_nothing_more() {
        let (near, mut far) = tokio::io::duplex(64);
        let cut = CancellationToken::new();
        let mut line = Line { stream: near, cut: Box::pin(cut.clone().cancelled_owned()) };
        line.write_all(b"one").await.unwrap();
        let mut got = [0; 3];
        far.read_exact(&mut got).await.unwrap();
        let (read, ()) = tokio::join!(line.read(&mut got), async { cut.cancel() });
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
        assert!(line.write_all(b"two").await.is_err());
        line.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn each_address_is_told_with_its_cause() {
        let clock = access_core::time::ManualClock::at(access_core::Timestamp::EPOCH);
        let addresses: Vec<_> = ["a:1", "[::1]:2"].map(|text| text.parse().unwrap()).into();
        let attempt = |address: HostPort| async move {
            let why = format!("{} sleeps", address.port());
            Err::<(), _>(ClientError::Unreachable { address: address.to_string(), why })
        };
        let err = reach_any(&addresses, &clock, attempt).await.unwrap_err();
        assert!(matches!(err, ClientError::Unreachable { .. }));
        let text = err.to_string();
        assert!(text.starts_with("cannot reach any of the addresses: "), "{text}");
        assert!(text.contains("a:1: 1 sleeps") && text.contains("[::1]:2: 2 sleeps"), "{text}");
        // One that answers wrongly counts more than one that does not answer.
        let attempt = |address: HostPort| async move {
            let (why, address) = ("x".to_owned(), address.to_string());
            Err::<(), _>(match address.starts_with('a') {
                true => ClientError::WrongPeer { address, why },
                false => ClientError::Unreachable { address, why: "refused".into() },
            })
        };
        let err = reach_any(&addresses, &clock, attempt).await.unwrap_err();
        assert!(matches!(err, ClientError::WrongPeer { .. }));
        let text = err.to_string();
        assert!(text.contains("a:1 does not prove") && text.contains("[::1]:2: refused"), "{text}");
        let err = reach_any(&addresses[1..], &clock, attempt).await.unwrap_err();
        assert_eq!(err.to_string(), "cannot reach [::1]:2: refused");
    }
}
