//! What PostgreSQL's clients say at the front door before TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access_postgres::prelude::{self, Opened, Recognised as Postgres};
use access_postgres::wire::CancelRequest;
use access_proxy::{ClientStream, Outcome, Prefixed, Prelude, Recognised, Tunnels};
use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::debug;

/// How long a client's first words may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an agent may take for a wish to cancel.
const CANCEL_WITHIN: Duration = Duration::from_secs(30);

/// Answers requests for encryption, and leads CancelRequests to the agents of their sessions.
/// Everything else is TLS, and goes on as TLS does.
pub(crate) struct PostgresPrelude(pub(crate) Arc<Tunnels>);

#[async_trait]
impl Prelude for PostgresPrelude {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn recognise(&self, first: &[u8]) -> Recognised {
        match prelude::recognise(first) {
            Postgres::Yes => Recognised::Yes,
            Postgres::More => Recognised::More,
            Postgres::No => Recognised::No,
        }
    }

    async fn serve(&self, stream: ClientStream, client: SocketAddr) -> Outcome {
        match prelude::open(stream, PATIENCE).await {
            Ok(Opened::Tls(stream)) => {
                let (first, stream) = stream.into_parts();
                let (rest, stream) = stream.into_parts();
                Outcome::Tls(Prefixed::new([first, rest].concat(), stream))
            }
            Ok(Opened::Cancel(request)) => {
                // The client waits for the end of its connection, and for nothing else.
                let told = tokio::time::timeout(CANCEL_WITHIN, self.cancel(&request, client));
                if !matches!(told.await, Ok(true)) {
                    debug!(%client, "a CancelRequest led nowhere");
                }
                Outcome::Done
            }
            Ok(Opened::Refused(failure)) => Outcome::Refused(failure.message),
            Err(err) if err.kind() == io::ErrorKind::TimedOut => Outcome::Refused(err.to_string()),
            Err(err) => {
                debug!(%client, "a PostgreSQL client left: {err}");
                Outcome::Done
            }
        }
    }
}

impl PostgresPrelude {
    /// Hands a CancelRequest to the agent of its session, which knows the secret. Says whether
    /// there is one.
    async fn cancel(&self, request: &CancelRequest, client: SocketAddr) -> bool {
        let Some(mut agent) = self.0.open_beside(request.process_id, client).await else {
            return false;
        };
        let mut answer = [0];
        agent.write_all(&request.encode()).await.is_ok()
            && agent.shutdown().await.is_ok()
            && agent.read(&mut answer).await.is_ok()
    }
}
