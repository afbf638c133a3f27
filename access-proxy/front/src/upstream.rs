//! The way to Auth: bytes of `auth.CLUSTER` are copied there, untouched.
//!
//! The one file of this crate that dials.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

/// How long one address may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Where Auth is: any number of replicas, tried in turn from the last that answered.
#[derive(Debug)]
pub struct AuthUpstream {
    addresses: Vec<(String, u16)>,
    last_good: AtomicUsize,
}

impl AuthUpstream {
    /// Auth's addresses, host and port.
    pub fn new(addresses: Vec<(String, u16)>) -> Self {
        Self { addresses, last_good: AtomicUsize::new(0) }
    }

    /// Connects to the first replica that answers.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let start = self.last_good.load(Ordering::Relaxed);
        let mut last = io::Error::new(io::ErrorKind::NotConnected, "no address of auth is known");
        for offset in 0..self.addresses.len() {
            let index = (start + offset) % self.addresses.len();
            let Some((host, port)) = self.addresses.get(index) else { continue };
            #[allow(clippy::disallowed_methods, reason = "the one place here that dials")]
            let dialled = TcpStream::connect((host.as_str(), *port));
            match tokio::time::timeout(DEADLINE, dialled).await {
                Ok(Ok(stream)) => {
                    self.last_good.store(index, Ordering::Relaxed);
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Ok(Err(err)) => last = err,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}
