//! Room for protocols that do not start with TLS: SSH, PostgreSQL.

use std::net::SocketAddr;

use access_core::Prefixed;
use async_trait::async_trait;
use tokio::net::TcpStream;

/// A client's connection, with the bytes that were looked at still in it.
pub type ClientStream = Prefixed<TcpStream>;

/// Whether first bytes are a protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// They are.
    Yes,
    /// They are not.
    No,
    /// They may be; more are needed.
    More,
}

/// What becomes of a connection after its prelude.
#[derive(Debug)]
pub enum Outcome {
    /// It was served to its end.
    Done,
    /// What it said is nothing that could be served, for this reason. The client was told; the front
    /// writes it down, as often as it does for one source.
    Refused(String),
    /// It goes on as TLS, and is routed by SNI and ALPN.
    Tls(ClientStream),
}

/// A protocol's first words at the front door. Registered with
/// [`FrontParts`](crate::FrontParts); the front itself knows none.
#[async_trait]
pub trait Prelude: Send + Sync + 'static {
    /// Its name, for logs and metrics.
    fn name(&self) -> &'static str;

    /// Whether the first bytes are its own. Asked again with more when it says
    /// [`Recognised::More`]; at least one byte is there.
    fn recognise(&self, first: &[u8]) -> Recognised;

    /// Serves a connection that it recognised. The client has proved nothing yet: everything that
    /// comes needs bounds and deadlines.
    async fn serve(&self, stream: ClientStream, client: SocketAddr) -> Outcome;
}

/// Whether `first` is the start of `mark`, is more than it, or something else: what most
/// preludes need.
///
/// ```
/// use access_proxy::Recognised;
/// assert_eq!(Recognised::by_mark(b"SSH-2.0-OpenSSH", b"SSH-2.0-"), Recognised::Yes);
/// assert_eq!(Recognised::by_mark(b"SS", b"SSH-2.0-"), Recognised::More);
/// assert_eq!(Recognised::by_mark(b"GET", b"SSH-2.0-"), Recognised::No);
/// ```
impl Recognised {
    /// Compares first bytes with a fixed mark.
    pub fn by_mark(first: &[u8], mark: &[u8]) -> Self {
        if first.starts_with(mark) {
            Self::Yes
        } else if mark.starts_with(first) {
            Self::More
        } else {
            Self::No
        }
    }
}
