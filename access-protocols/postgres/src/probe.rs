//! Whether a database answers.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::PostgresError;
use crate::handler::{greet_in_clear, greet_secured};
use crate::tls::TargetTls;

/// Looks whether the database at the other end of a stream answers as it should, and closes.
///
/// With `tls`, TLS is made as for a session: asked for or at once, and the certificate of the
/// database verified for `host` as the mode says. Without, the database is only asked whether it
/// has TLS, which every one answers. Nobody is authenticated and no session is begun, so that the
/// database has nothing to log or to refuse; that it would take a client's certificate is not
/// learned this way. All of it takes `deadline` at most.
///
/// # Errors
/// [`PostgresError::Unhealthy`] says what is wrong with it.
pub async fn probe<S>(
    stream: S,
    host: &str,
    tls: Option<&TargetTls>,
    deadline: Duration,
) -> Result<(), PostgresError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let greeted = async {
        match tls {
            Some(tls) => greet_secured(stream, host, tls).await,
            None => greet_in_clear(stream).await,
        }
    };
    let greeted = tokio::time::timeout(deadline, greeted).await;
    greeted.unwrap_or_else(|_| Err("no answer in time".into())).map_err(PostgresError::Unhealthy)
}
