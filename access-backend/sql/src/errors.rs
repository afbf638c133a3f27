//! What the database's errors mean to whoever runs the program.

use std::error::Error as StdError;

use access_backend::Error;
use rustls::{AlertDescription, CertificateError};
use tokio_postgres::error::SqlState;

use crate::conn_string::ConnString;

/// What to do after a statement failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was written: the whole transaction can be tried again at once.
    Conflict,
    /// The connection is gone, and whether the transaction was committed is not known.
    Lost(Error),
    /// The server did not do it, and may do it later.
    Busy(Error),
    /// Trying again does not help.
    Final(Error),
}

impl Failure {
    /// The error, for whoever does not try again.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Conflict => unavailable("the transaction met others again and again"),
            Self::Lost(error) | Self::Busy(error) | Self::Final(error) => error,
        }
    }
}

/// Judges an error of a statement or of a connection attempt.
pub(crate) fn judge(conn: &ConnString, error: &tokio_postgres::Error) -> Failure {
    let Some(db) = error.as_db_error() else { return off_the_wire(conn, error) };
    let (code, said) = (db.code(), db.message());
    let (user, database) = (conn.user(), conn.database());
    let wrong = |reason: String| Failure::Final(Error::Setting { setting: conn.setting(), reason });
    match code.code() {
        "40001" | "40P01" | "CR000" => Failure::Conflict,
        // statement_completion_unknown; the server ends the session; it starts or stops.
        "40003" | "57P01" | "57P02" | "57P05" | "25P03" | "25P04" => {
            Failure::Lost(unavailable(said))
        }
        "57P03" => Failure::Busy(unavailable(said)),
        "53300" => Failure::Busy(unavailable(&format!(
            "{conn}: {said}; lower pool_max_conns in {}, or raise max_connections of the \
             server",
            conn.setting()
        ))),
        "53100" => Failure::Busy(unavailable(&format!(
            "{conn}: the server's disk is full ({said}); free some space there"
        ))),
        "57014" | "55P03" => Failure::Busy(unavailable(&format!(
            "{conn}: {said}: a statement has 30 s there, and waits 10 s for a lock; look in pg_stat_activity, or \
             in CockroachDB's SHOW SESSIONS, who else works on the database that {} leads to, and at its load",
            conn.setting()
        ))),
        "28P01" | "28000" => wrong(format!(
            "the database refuses the user {user} ({said}); check user and password, sslcert and \
             sslkey, and what the server's pg_hba.conf says of them"
        )),
        "3D000" => wrong(format!(
            "there is no database {database}; as its administrator run: CREATE DATABASE {database}"
        )),
        "42501" => wrong(format!(
            "the user {user} may not do that ({said}); as an administrator run: GRANT ALL ON \
             DATABASE {database} TO {user}, and GRANT ALL ON SCHEMA public TO {user} in it"
        )),
        "25006" => wrong(format!(
            "{conn} is a read-only replica ({said}); name the primary, or all hosts with \
             target_session_attrs=read-write"
        )),
        "42P01" | "42703" | "42804" | "42P10" | "23502" | "23514" | "0A000" => {
            Failure::Final(crate::types::altered(said))
        }
        "22021" => Failure::Final(Error::Invalid { what: "text", reason: said.to_lowercase() }),
        other if other.starts_with("08") => Failure::Lost(unavailable(said)),
        _ if *code == SqlState::INVALID_CATALOG_NAME => Failure::Final(unavailable(said)),
        other => Failure::Final(unavailable(&format!("{conn}: {said} ({other})"))),
    }
}

/// Errors that no server sent.
fn off_the_wire(conn: &ConnString, error: &tokio_postgres::Error) -> Failure {
    let wrong = |reason: String| Failure::Final(Error::Setting { setting: conn.setting(), reason });
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    let mut deepest = error.to_string();
    while let Some(now) = cause {
        deepest = now.to_string();
        let tls = now.downcast_ref::<rustls::Error>().or_else(|| {
            let io = now.downcast_ref::<std::io::Error>()?;
            io.get_ref()?.downcast_ref::<rustls::Error>()
        });
        if let Some(tls) = tls {
            return match tls_reason(tls) {
                Some(reason) => wrong(format!("{conn}: {reason}")),
                None => Failure::Lost(unavailable(&format!("{conn}: {tls}"))),
            };
        }
        cause = now.source();
    }
    let text = error.to_string();
    if deepest.contains("server does not support TLS") {
        return wrong(format!(
            "{conn} speaks no TLS; switch it on there, or write sslmode=disable if nobody else is \
             on the way"
        ));
    }
    if text.starts_with("authentication error") || text.contains("invalid configuration") {
        return wrong(format!("{conn}: {text}: {deepest}; check user and password"));
    }
    if text.contains("does not allow writes") || deepest.contains("does not allow writes") {
        return wrong(format!(
            "no host of {conn} takes writes; name the primary as well, or leave \
             target_session_attrs out"
        ));
    }
    Failure::Lost(unavailable(&format!("{conn}: {text}: {deepest}")))
}

/// What to change, where it is the set-up that is wrong.
fn tls_reason(error: &rustls::Error) -> Option<String> {
    let certificate = match error {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::AlertReceived(alert) => {
            return match alert {
                AlertDescription::CertificateRequired | AlertDescription::NoCertificate => Some(
                    "the server wants a client certificate; name one with sslcert and sslkey"
                        .into(),
                ),
                AlertDescription::CertificateExpired => {
                    Some("the client certificate in sslcert has expired; renew it".into())
                }
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate => Some(format!(
                    "the server refuses the client certificate in sslcert ({alert:?}); use one \
                     that its authority has signed for this user"
                )),
                _ => None,
            };
        }
        rustls::Error::InvalidMessage(_) => {
            return Some("what answers there does not speak TLS; check host and port".into());
        }
        _ => return None,
    };
    Some(match certificate {
        CertificateError::UnknownIssuer => {
            "the server's certificate comes from an authority that is not trusted; name its \
             authority with sslrootcert"
                .into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another host; write host as the certificate has it, \
             or sslmode=verify-ca if its name does not matter"
                .into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired; renew it there".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; check the clocks of both machines".into()
        }
        other => format!("the server's certificate is refused: {other:?}"),
    })
}

pub(crate) fn unavailable(detail: &str) -> Error {
    Error::Unavailable { detail: detail.to_owned() }
}
