//! The way to Auth: bytes of `auth.CLUSTER` are copied there, untouched.
//!
//! The one file of this crate that dials.

use std::io;
use std::time::Duration;

use access_core::spread::Spread;
use access_core::time::Clock;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How long one address may take to be connected to, and then to answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);

/// Where Auth is: any number of replicas. Each connection begins with one that is drawn at random;
/// those that failed lately are tried last.
#[derive(Debug)]
pub struct AuthUpstream {
    addresses: Vec<(String, u16)>,
    spread: Spread,
}

impl AuthUpstream {
    /// Auth's addresses, host (IPv6 without brackets) and port.
    pub fn new(addresses: Vec<(String, u16)>) -> Self {
        let spread = Spread::new(addresses.len());
        Self { addresses, spread }
    }

    /// Connects to the first replica that answers to what a client said first, and says which. One
    /// that takes connections and hangs is not waited for: the next one is told the same, which is
    /// no harm, since the client has heard nothing yet.
    pub(crate) async fn connect(
        &self,
        first: &[u8],
        clock: &dyn Clock,
    ) -> io::Result<(usize, TcpStream)> {
        let attempt = |way: usize| async move {
            let Some((host, port)) = self.addresses.get(way) else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            #[allow(clippy::disallowed_methods, reason = "the one place here that dials")]
            let dialled = TcpStream::connect((host.as_str(), *port));
            let mut stream = tokio::time::timeout(CONNECT, dialled).await??;
            stream.set_nodelay(true)?;
            let answered = async {
                stream.write_all(first).await?;
                stream.peek(&mut [0]).await
            };
            match tokio::time::timeout(ANSWER, answered).await {
                Ok(Ok(0)) => Err(io::Error::other("it closed the connection without an answer")),
                Ok(Ok(_)) => Ok(stream),
                Ok(Err(err)) => Err(err),
                Err(_) => Err(io::Error::other("it takes connections and does not answer")),
            }
        };
        self.spread.reach(clock, draw(), attempt).await.map_err(|failures| {
            let causes: Vec<_> = failures
                .into_iter()
                .filter_map(|(way, err): (usize, io::Error)| {
                    let (host, port) = self.addresses.get(way)?;
                    let open = if host.contains(':') { ("[", "]") } else { ("", "") };
                    Some(format!("{}{host}{}:{port}: {err}", open.0, open.1))
                })
                .collect();
            io::Error::new(io::ErrorKind::NotConnected, causes.join("; "))
        })
    }
}

/// Random bits; without randomness all connections begin alike, no more.
fn draw() -> u64 {
    let mut bytes = [0; 8];
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use access_core::Timestamp;
    use access_core::time::ManualClock;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    /// A replica that answers everybody with its number.
    fn answer(listener: TcpListener, number: u8) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut first = [0; 5];
                stream.read_exact(&mut first).await.unwrap();
                assert_eq!(&first, b"hello");
                stream.write_all(&[number]).await.unwrap();
                open.push(stream);
            }
        })
    }

    async fn ask(auth: &AuthUpstream, clock: &ManualClock) -> usize {
        let (way, mut stream) = auth.connect(b"hello", clock).await.unwrap();
        assert_eq!(usize::from(stream.read_u8().await.unwrap()), way, "nothing was taken");
        way
    }

    #[tokio::test]
    async fn replicas_are_spread_over_left_and_come_back_to() {
        let clock = ManualClock::at(Timestamp::from_secs(1_000));
        let four = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let six = TcpListener::bind("[::1]:0").await.unwrap();
        let (four_at, six_at) = (four.local_addr().unwrap(), six.local_addr().unwrap());
        let addresses = [four_at, six_at].map(|at| (at.ip().to_string(), at.port()));
        let auth = AuthUpstream::new(addresses.to_vec());
        let (four, six) = (answer(four, 0), answer(six, 1));
        let spread = async || {
            let mut counts = [0; 2];
            for _ in 0..40 {
                counts[ask(&auth, &clock).await] += 1;
            }
            assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
        };
        spread().await;
        // What is gone is left at once, and come back to when it is there again.
        four.abort();
        assert!(four.await.is_err());
        for _ in 0..20 {
            assert_eq!(ask(&auth, &clock).await, 1);
        }
        let four = answer(TcpListener::bind(four_at).await.unwrap(), 0);
        clock.advance(Duration::from_secs(60));
        spread().await;
        // So is what takes connections and closes them, and all are told of where none is left.
        six.abort();
        assert!(six.await.is_err());
        let six = TcpListener::bind(six_at).await.unwrap();
        let six = tokio::spawn(async move {
            while let Ok((mut stream, _)) = six.accept().await {
                let _ = stream.read_exact(&mut [0; 5]).await;
            }
        });
        for _ in 0..20 {
            assert_eq!(ask(&auth, &clock).await, 0);
        }
        four.abort();
        assert!(four.await.is_err());
        let err = auth.connect(b"hello", &clock).await.unwrap_err().to_string();
        assert!(err.contains(&format!("{four_at}: Connection refused")), "{err}");
        assert!(err.contains(&format!("{six_at}: it closed the connection")), "{err}");
        six.abort();
    }

    #[tokio::test]
    async fn one_that_hangs_is_not_waited_for() {
        let clock = ManualClock::at(Timestamp::from_secs(1_000));
        let (mute, good) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let addresses = [&mute, &good].map(|listener| {
            let at = listener.local_addr().unwrap();
            (at.ip().to_string(), at.port())
        });
        let auth = AuthUpstream::new(addresses.to_vec());
        let good = answer(good, 1);
        for _ in 0..8 {
            let asked = async {
                let asked = ask(&auth, &clock);
                tokio::pin!(asked);
                loop {
                    tokio::select! {
                        way = &mut asked => return way,
                        () = tokio::time::sleep(Duration::from_millis(20)) => {
                            clock.advance(Duration::from_secs(1));
                        }
                    }
                }
            };
            assert_eq!(asked.await, 1);
            clock.advance(Duration::from_secs(300));
        }
        good.abort();
    }
}
