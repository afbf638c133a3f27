//! Looking whether a target is there.

use std::io;

use access_core::reach::BoxedStream;
use access_core::resource::ResourceRef;

use crate::dial::{self, Patience};
use crate::reach::HostReach;

/// One address of a target, at which can be looked whether the target answers.
///
/// It is dialled without a permit, since nobody has asked for anything: a program that runs an
/// agent looks after the targets of its own configuration. It is no way around the gate.
/// Protocols hold their reach as [`Reach`](access_core::reach::Reach), which has no such method,
/// so that nothing a client sends leads here; the address is one that the program itself has
/// configured, and there is no parameter in which another could be named. Whoever looks does not
/// authenticate to the target, and hands neither the connection nor what comes over it to anybody.
#[derive(Clone, Debug)]
pub struct Probe {
    host: String,
    port: u16,
    patience: Patience,
}

impl HostReach {
    /// The addresses of a target, in the order in which [`HostReach`] tries them; none when it has
    /// no route here.
    pub fn probes(&self, resource: &ResourceRef) -> Vec<Probe> {
        let patience = self.patience();
        let route = self.route_of(resource).into_iter();
        route.map(|(host, port)| Probe { host, port, patience }).collect()
    }
}

impl Probe {
    /// The host as it was configured: the name that a certificate of the target is held against.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Connects, to look and close.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::TimedOut`] past the reach's deadline.
    pub async fn connect(&self) -> io::Result<BoxedStream> {
        Ok(Box::new(dial::connect(&self.host, self.port, self.patience).await?))
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_has_a_route_can_be_looked_at() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let reach = HostReach::builder().build().unwrap();
        let resource: ResourceRef = "db/roach".parse().unwrap();
        assert!(reach.probes(&resource).is_empty());
        let closed = "[::1]:1".to_owned();
        reach.set_route(&resource, [closed.clone(), format!("127.0.0.1:{port}")]).unwrap();
        let probes = reach.probes(&resource);
        assert_eq!(probes.iter().map(ToString::to_string).next(), Some(closed));
        assert_eq!(probes[1].host(), "127.0.0.1");
        assert!(probes[0].connect().await.is_err());
        probes[1].connect().await.unwrap();
    }
}
