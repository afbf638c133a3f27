//! The way to Auth: bytes of `auth.CLUSTER` are copied there, untouched.
//!
//! The one file of this crate that dials.

use std::io;
use std::time::Duration;

use access_core::spread::Spread;
use access_core::time::Clock;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpStream;

/// How long one address may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

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

    /// Connects to the first replica that answers, and says which.
    pub(crate) async fn connect(&self, clock: &dyn Clock) -> io::Result<(usize, TcpStream)> {
        let attempt = |way: usize| async move {
            let Some((host, port)) = self.addresses.get(way) else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            #[allow(clippy::disallowed_methods, reason = "the one place here that dials")]
            let dialled = TcpStream::connect((host.as_str(), *port));
            let stream = tokio::time::timeout(DEADLINE, dialled).await??;
            stream.set_nodelay(true)?;
            Ok(stream)
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

    /// A replica took a connection and said nothing on it.
    pub(crate) fn was_mute(&self, way: usize, clock: &dyn Clock) {
        self.spread.failed(way, clock.now(), draw());
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
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn replicas_are_spread_over_left_and_come_back_to() {
        let clock = ManualClock::at(Timestamp::from_secs(1_000));
        let four = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let six = TcpListener::bind("[::1]:0").await.unwrap();
        let (four_at, six_at) = (four.local_addr().unwrap(), six.local_addr().unwrap());
        let auth = AuthUpstream::new(
            [four_at, six_at].map(|at| (at.ip().to_string(), at.port())).to_vec(),
        );
        let mut counts = [0; 2];
        for _ in 0..40 {
            counts[auth.connect(&clock).await.unwrap().0] += 1;
        }
        assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
        // What is gone is left at once, and what took a connection and said nothing is tried last.
        drop(four);
        for _ in 0..20 {
            assert_eq!(auth.connect(&clock).await.unwrap().0, 1);
        }
        let four = TcpListener::bind(four_at).await.unwrap();
        auth.was_mute(1, &clock);
        for _ in 0..20 {
            assert_eq!(auth.connect(&clock).await.unwrap().0, 0);
        }
        clock.advance(Duration::from_secs(60));
        let mut counts = [0; 2];
        for _ in 0..40 {
            counts[auth.connect(&clock).await.unwrap().0] += 1;
        }
        assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
        drop((four, six));
        let err = auth.connect(&clock).await.unwrap_err().to_string();
        for at in [four_at, six_at] {
            assert!(err.contains(&format!("{at}: Connection refused")), "{err}");
        }
    }
}
