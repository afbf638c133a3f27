//! How errors of the client end the program.

use access_client::ClientError;
use access_daemon::{Exit, ExitCode};

/// An exit for an error of the client.
pub(crate) fn client_exit(err: ClientError) -> Exit {
    use ClientError as E;
    let code = match &err {
        E::Unreachable { .. } | E::WrongPeer { .. } => ExitCode::Unreachable,
        E::Unauthenticated(_) => ExitCode::NotLoggedIn,
        E::Denied(_) => ExitCode::Denied,
        _ => ExitCode::Failed,
    };
    Exit::new(code, err)
}

/// An exit for the failure of a call.
pub(crate) fn call_exit(status: tonic::Status) -> Exit {
    client_exit(status.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_decides_the_exit_code() {
        for (status, code) in [
            (tonic::Status::permission_denied("no"), ExitCode::Denied),
            (tonic::Status::unauthenticated("no"), ExitCode::NotLoggedIn),
            (tonic::Status::unavailable("no"), ExitCode::Unreachable),
            (tonic::Status::not_found("no"), ExitCode::Failed),
            (tonic::Status::invalid_argument("no"), ExitCode::Failed),
            (tonic::Status::already_exists("no"), ExitCode::Failed),
        ] {
            assert_eq!(call_exit(status).code(), code);
        }
    }
}
