//! Accepting: a bounded number of connections, of each source and of all, and a deadline on each
//! handshake.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connection::Connection;
use crate::limits::source_key;
use crate::service::AuthService;

/// How long to wait after the system refused to accept, such as for want of descriptors.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until it is dropped, which ends the handshakes that are under way.
pub(super) async fn accept(
    service: AuthService,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    accepted: mpsc::Sender<Connection>,
) {
    let limits = &service.inner.limits;
    let places = Places::new(limits.connections, limits.connections_per_source);
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
        let (service, acceptor, accepted) = (service.clone(), acceptor.clone(), accepted.clone());
        handshakes.spawn(async move {
            match service.handshake(&acceptor, stream, Some(address)).await {
                // The service may have ended meanwhile.
                Ok(connection) => drop(accepted.send(connection.holding(admission)).await),
                Err(error) => {
                    metrics::counter!("access_auth_handshakes_failed_total").increment(1);
                    tracing::debug!(%address, %error, "a connection was refused");
                }
            }
        });
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

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self.places.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        if let Some(count) = open.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.by_source.remove(&self.source);
            }
        }
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
}
