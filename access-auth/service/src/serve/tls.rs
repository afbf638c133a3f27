//! Accepting: a bounded number of connections, of each source and of all, and a deadline on each
//! handshake.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::Comer;
use super::connection::Connection;
use super::origin::{Arrival, arrive};
use crate::error::{Error, Result};
use crate::limits::{Buckets, Rate, source_key};
use crate::service::AuthService;

/// How long to wait after the system refused to accept, such as for want of descriptors.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Warnings of connections that claim to be led by a proxy, and are not: strangers can make any
/// number.
const WARNINGS: Rate = Rate::new(10, 0.1);

/// Accepts until it is dropped, which ends the handshakes that are under way.
pub(super) async fn accept(
    service: AuthService,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    accepted: mpsc::Sender<Connection>,
) {
    let limits = &service.inner.limits;
    let places = Places::new(limits.connections, limits.connections_per_source);
    let warnings = Arc::new(Buckets::new(WARNINGS));
    let mut handshakes = JoinSet::new();
    loop {
        let (stream, address) = tokio::select! {
            arrived = listener.accept() => match arrived {
                Ok(arrived) => arrived,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            Some(_) = handshakes.join_next() => continue,
            () = accepted.closed() => return,
        };
        let Some(admission) = places.take(source_key(Some(address.ip()))) else {
            metrics::counter!("access_auth_connections_refused_total").increment(1);
            tracing::debug!(%address, "too many connections");
            continue;
        };
        // Small messages both ways: waiting to fill packets only delays them.
        let _ = stream.set_nodelay(true);
        let newcomer = Newcomer { stream, address, admission };
        let (service, acceptor, accepted) = (service.clone(), acceptor.clone(), accepted.clone());
        let warnings = Arc::clone(&warnings);
        handshakes.spawn(async move {
            match newcomer.welcome(&service, &acceptor, &warnings).await {
                // The service may have ended meanwhile.
                Ok(connection) => drop(accepted.send(connection).await),
                Err(error) => {
                    metrics::counter!("access_auth_handshakes_failed_total").increment(1);
                    tracing::debug!(%address, %error, "a connection was refused");
                }
            }
        });
    }
}

/// A connection of which nothing is known yet.
struct Newcomer {
    stream: TcpStream,
    address: SocketAddr,
    admission: Admission,
}

impl Newcomer {
    /// Finds out where it comes from, and who it is.
    async fn welcome(
        self,
        service: &AuthService,
        acceptor: &TlsAcceptor,
        warnings: &Buckets<()>,
    ) -> Result<Connection> {
        let Self { stream, address, admission } = self;
        let by = Instant::now() + service.inner.limits.handshake;
        let arrived = tokio::time::timeout_at(by, arrive(service, stream)).await;
        let arrival = arrived.map_err(|_| Error::Deadline("no ClientHello came".into()))?;
        let arrival = arrival.inspect_err(|error| {
            metrics::counter!("access_auth_origins_refused_total").increment(1);
            if warnings.take(&(), service.now()).is_ok() {
                tracing::warn!(%address, %error, "a connection was refused");
            }
        })?;
        let (connection, admission) = match arrival {
            Arrival::Direct(stream) => {
                let from = Comer { address: Some(address), led: false };
                (service.handshake(acceptor, stream, from, by).await?, admission)
            }
            Arrival::Led(stream, client) => {
                let admission = admission
                    .of(source_key(Some(client.ip())))
                    .ok_or_else(|| Error::Limited(format!("too many connections of {client}")))?;
                let from = Comer { address: Some(client), led: true };
                (service.handshake(acceptor, stream, from, by).await?, admission)
            }
        };
        Ok(connection.holding(admission))
    }
}

/// How many connections may be open.
#[derive(Clone)]
struct Places(Arc<Shared>);

struct Shared {
    most: usize,
    most_per_source: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One of them; given back when it is dropped.
pub(super) struct Admission {
    places: Places,
    source: IpAddr,
}

impl Places {
    fn new(most: usize, most_per_source: usize) -> Self {
        Self(Arc::new(Shared { most, most_per_source, open: Mutex::default() }))
    }

    fn take(&self, source: IpAddr) -> Option<Admission> {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = open.by_source.get(&source).copied().unwrap_or(0);
        if open.all >= self.0.most || of_source >= self.0.most_per_source {
            return None;
        }
        open.all += 1;
        open.by_source.insert(source, of_source + 1);
        Some(Admission { places: self.clone(), source })
    }
}

impl Admission {
    /// The same place, counted for another source, if that has one left.
    fn of(mut self, source: IpAddr) -> Option<Self> {
        // Both at once: whoever had to give the place back first could lose it in between.
        let mut open = self.places.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if source != self.source {
            let of_source = open.by_source.get(&source).copied().unwrap_or(0);
            if of_source >= self.places.0.most_per_source {
                drop(open);
                return None;
            }
            open.by_source.insert(source, of_source + 1);
            open.leave(self.source);
            drop(open);
            self.source = source;
        } else {
            drop(open);
        }
        Some(self)
    }
}

impl Open {
    fn leave(&mut self, source: IpAddr) {
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self.places.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        open.leave(self.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let places = Places::new(3, 2);
        let (a, b): (IpAddr, IpAddr) =
            ("203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap());
        let first = places.take(a).unwrap();
        let _second = places.take(a).unwrap();
        assert!(places.take(a).is_none(), "two of one source");
        let _third = places.take(b).unwrap();
        assert!(places.take(b).is_none(), "three of all");
        drop(first);
        assert!(places.take(b).is_some());
        assert_eq!(places.0.open.lock().unwrap().by_source.len(), 2);
    }

    #[test]
    fn a_place_can_be_counted_for_another_source() {
        let places = Places::new(3, 1);
        let (proxy, client): (IpAddr, IpAddr) =
            ("203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap());
        let first = places.take(proxy).unwrap().of(client).unwrap();
        let second = places.take(proxy).unwrap();
        assert!(second.of(client).is_none(), "the client has one already");
        let third = places.take(proxy).expect("what was refused is given back");
        drop((first, third));
        let open = places.0.open.lock().unwrap();
        assert!(open.all == 0 && open.by_source.is_empty());
    }
}
