//! What can go wrong on the way to the Auth Service.

use std::error::Error as _;

use access_core::identity::PinError;
use access_core::time::Timestamp;
use access_core::tls::TlsError;
use rustls_pki_types::UnixTime;

use crate::address::HostPort;

/// An error of the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answers, or the connection broke.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// What came of it.
        why: String,
    },
    /// Somebody else answers: the key is not the pinned one, or the name is wrong.
    #[error(
        "{address} does not prove to be the cluster that was asked for ({why}): \
         check the address and the CA pin; somebody may be in between"
    )]
    WrongPeer {
        /// What was dialled.
        address: String,
        /// What does not fit.
        why: String,
    },
    /// The certificate is missing, expired or void.
    #[error("not logged in: {0}")]
    Unauthenticated(String),
    /// The policy says no.
    #[error("access denied: {0}")]
    Denied(String),
    /// It is not there, or not for the caller to see.
    #[error("{0}")]
    NotFound(String),
    /// It is there already.
    #[error("{0}")]
    AlreadyExists(String),
    /// It has changed since it was read, or the token or invitation is spent.
    #[error("{0}")]
    Conflict(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Too many requests.
    #[error("{0}: wait a while and try again")]
    Limited(String),
    /// The service failed.
    #[error("the auth service failed: {0}")]
    Server(String),
    /// The clocks of the two machines are too far apart for certificates to work.
    #[error(
        "the clock here is {} s {} the cluster's: set it, then try again",
        .0.unsigned_abs(), if *.0 < 0 { "behind" } else { "ahead of" }
    )]
    Clock(i64),
    /// Whoever answers shows a certificate that does not hold at this machine's time. It proves
    /// nothing, but who is who they should be seldom lets one expire, and clocks are often wrong.
    #[error(
        "{address} shows a certificate that {why}: set the clock here if it is wrong; if it is \
         right, somebody may be in between"
    )]
    Untimely {
        /// What was dialled.
        address: String,
        /// When the certificate holds, and what the clock here says.
        why: String,
    },
    /// What was received, or read from a file, cannot be used.
    #[error("{0}")]
    Malformed(String),
    /// A TLS configuration cannot be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A pin is none.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// A certificate that held by the clock here when it was shown, and not by the clock there.
const NOT_NOW: &str = "the other end says that the certificate has expired or does not hold yet, \
                       log in again; if that does not help, one of the two clocks is wrong";

/// A certificate that nobody there signed.
const NOT_ACCEPTED: &str = "the cluster does not accept this certificate, log in again";

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        if let Some(error) = refused_by_tls(&status) {
            return error;
        }
        let message = status.message().to_owned();
        match status.code() {
            Code::Unauthenticated => Self::Unauthenticated(message),
            Code::PermissionDenied => Self::Denied(message),
            Code::NotFound => Self::NotFound(message),
            Code::AlreadyExists => Self::AlreadyExists(message),
            Code::Aborted | Code::FailedPrecondition => Self::Conflict(message),
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid(message),
            Code::ResourceExhausted => Self::Limited(message),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                Self::Unreachable { address: "the auth service".into(), why: causes(&status) }
            }
            // What a service says has no cause here: the connection broke under the call, such as
            // that of a replica which died. "transport error" alone says nothing.
            _ => match status.source() {
                Some(cause) => {
                    let why = format!("the connection broke ({})", causes(cause));
                    Self::Unreachable { address: "the auth service".into(), why }
                }
                None => Self::Server(message),
            },
        }
    }
}

/// In TLS 1.3 the refusal of a client's certificate comes with the first read, so it surfaces as
/// the failure of a call.
fn refused_by_tls(status: &tonic::Status) -> Option<ClientError> {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<ClientError>() {
            return error.again();
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && let Some(error) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>())
        {
            return of_tls(error);
        }
        // The HTTP library keeps only the text of an I/O error.
        let text = error.to_string();
        // So answers a proxy that has no way to Auth at the moment. It says nothing about the
        // caller, whom another login would not help.
        if text.contains("received fatal alert: UnrecognisedName") {
            return Some(ClientError::Unreachable {
                address: "the auth service".into(),
                why: "the proxy has no connection to it: try again in a moment".into(),
            });
        }
        if text.contains("received fatal alert") {
            let expired = text.contains("CertificateExpired");
            let why = if expired { NOT_NOW } else { NOT_ACCEPTED };
            return Some(ClientError::Unauthenticated(why.into()));
        }
        cause = error.source();
    }
    None
}

impl ClientError {
    /// What broke a stream that a [`TlsDialer`](crate::TlsDialer) made, if it was the refusal of
    /// the client's certificate: in TLS 1.3 that comes after the handshake.
    pub fn of_refusal(error: &std::io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref()).and_then(of_tls)
    }

    /// What a failed handshake with whoever answers at an address comes to.
    pub fn of_handshake(address: &HostPort, error: &rustls::Error) -> Self {
        if let Some(refused) = of_tls(error) {
            return refused;
        }
        let address = address.to_string();
        match error {
            // A proxy's word for a name that nobody behind it answers to at the moment.
            rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName) => {
                Self::Unreachable { address, why: crate::dial::NOBODY.into() }
            }
            rustls::Error::InvalidCertificate(certificate) => match untimely(certificate) {
                Some(why) => Self::Untimely { address, why },
                None => Self::WrongPeer { address, why: certificate.to_string() },
            },
            other => Self::WrongPeer { address, why: other.to_string() },
        }
    }

    /// What came of several addresses of one service, as one error: the one that tells most, with
    /// the causes of all others.
    pub(crate) fn of_all(mut failures: Vec<(HostPort, Self)>) -> Self {
        if let [_] = failures.as_slice()
            && let Some((_, error)) = failures.pop()
        {
            return error;
        }
        let cause = |(address, error): &(HostPort, Self)| match error {
            Self::Unreachable { why, .. } => format!("{address}: {why}"),
            other => format!("{address}: {}", causes(other)),
        };
        let list = |failures: &[(HostPort, Self)]| {
            failures.iter().map(cause).collect::<Vec<_>>().join("; ")
        };
        // Somebody who answers wrongly is worth more of a look than somebody who is away.
        let told = failures.iter().position(|(_, err)| !matches!(err, Self::Unreachable { .. }));
        let Some((address, error)) = told.map(|at| failures.remove(at)) else {
            let why = list(&failures);
            return Self::Unreachable { address: "any of the addresses".into(), why };
        };
        let others = list(&failures);
        match error {
            Self::WrongPeer { address, why } => {
                Self::WrongPeer { address, why: format!("{why}; and {others}") }
            }
            Self::Untimely { address, why } => {
                Self::Untimely { address, why: format!("{why} (and {others})") }
            }
            Self::Unauthenticated(why) => {
                Self::Unauthenticated(format!("{address}: {why}; and {others}"))
            }
            other => other,
        }
    }

    /// The same error once more, for those that come out of making a connection: the transport
    /// hands them on by reference only.
    fn again(&self) -> Option<Self> {
        match self {
            Self::Unreachable { address, why } => {
                Some(Self::Unreachable { address: address.clone(), why: why.clone() })
            }
            Self::WrongPeer { address, why } => {
                Some(Self::WrongPeer { address: address.clone(), why: why.clone() })
            }
            Self::Untimely { address, why } => {
                Some(Self::Untimely { address: address.clone(), why: why.clone() })
            }
            Self::Unauthenticated(why) => Some(Self::Unauthenticated(why.clone())),
            Self::Invalid(why) => Some(Self::Invalid(why.clone())),
            _ => None,
        }
    }
}

/// What is wrong with a certificate's time, if that is what is wrong.
fn untimely(error: &rustls::CertificateError) -> Option<String> {
    use rustls::CertificateError as E;
    let at = |time: &UnixTime| {
        Timestamp::from_secs(i64::try_from(time.as_secs()).unwrap_or(i64::MAX)).to_string()
    };
    match error {
        E::ExpiredContext { time, not_after } => Some(format!(
            "expired at {}, and the clock here is {} s past that",
            at(not_after),
            time.as_secs().saturating_sub(not_after.as_secs())
        )),
        E::NotValidYetContext { time, not_before } => Some(format!(
            "holds from {} on, and the clock here is {} s before that",
            at(not_before),
            not_before.as_secs().saturating_sub(time.as_secs())
        )),
        E::Expired => Some("has expired by the clock here".into()),
        E::NotValidYet => Some("does not hold yet by the clock here".into()),
        _ => None,
    }
}

/// What a TLS error says about who is to blame.
pub(crate) fn of_tls(error: &rustls::Error) -> Option<ClientError> {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::CertificateExpired => {
                Some(ClientError::Unauthenticated(NOT_NOW.into()))
            }
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::UnknownCA
            | Alert::AccessDenied
            // An authority of the same name with another key: its signature does not fit.
            | Alert::DecryptError => {
                Some(ClientError::Unauthenticated(NOT_ACCEPTED.into()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// An error with its causes, on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_is_no_fault_of_the_service() {
        let broke = std::io::Error::other("peer closed connection without sending close_notify");
        let error = ClientError::from(tonic::Status::from_error(Box::new(broke)));
        assert!(
            matches!(&error, ClientError::Unreachable { why, .. } if why.contains("close_notify"))
        );
        let error = ClientError::from(tonic::Status::unknown("it failed"));
        assert!(matches!(error, ClientError::Server(why) if why == "it failed"));
    }

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much() {
        assert!(ClientError::Clock(-3600).to_string().contains("is 3600 s behind the cluster's"));
        assert!(ClientError::Clock(61).to_string().contains("is 61 s ahead of the cluster's"));
        let at = |secs| UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
        let address = HostPort::parse("example.com", 443).unwrap();
        let told = |error: rustls::CertificateError| {
            ClientError::of_handshake(&address, &error.into()).to_string()
        };
        let early = told(rustls::CertificateError::NotValidYetContext {
            time: at(90),
            not_before: at(100),
        });
        assert!(early.contains("1970-01-01T00:01:40") && early.contains("10 s before"), "{early}");
        let late =
            told(rustls::CertificateError::ExpiredContext { time: at(107), not_after: at(100) });
        assert!(late.contains("1970-01-01T00:01:40") && late.contains("7 s past"), "{late}");
        // Whose name is wrong does not get away with the time.
        let wrong = told(rustls::CertificateError::NotValidForName);
        assert!(wrong.contains("does not prove to be the cluster"), "{wrong}");
    }
}
