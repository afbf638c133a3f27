//! What can go wrong on the way to the Auth Service.

use std::error::Error as _;

use access_core::identity::PinError;
use access_core::tls::TlsError;

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
    #[error("the clock here is {0} s off from the cluster's: set it, then try again")]
    Clock(i64),
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
            // "transport error" alone says nothing.
            _ => Self::Server(status.source().map_or(message, causes)),
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
            return Some(ClientError::Unauthenticated(if text.contains("CertificateExpired") {
                "the certificate has expired, log in again".into()
            } else {
                "the cluster does not accept this certificate, log in again".into()
            }));
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
            Self::Unauthenticated(why) => Some(Self::Unauthenticated(why.clone())),
            Self::Invalid(why) => Some(Self::Invalid(why.clone())),
            _ => None,
        }
    }
}

/// What a TLS error says about who is to blame.
pub(crate) fn of_tls(error: &rustls::Error) -> Option<ClientError> {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::CertificateExpired => Some(ClientError::Unauthenticated(
                "the certificate has expired, log in again".into(),
            )),
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::UnknownCA
            | Alert::AccessDenied
            // An authority of the same name with another key: its signature does not fit.
            | Alert::DecryptError => Some(ClientError::Unauthenticated(
                "the cluster does not accept this certificate, log in again".into(),
            )),
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
