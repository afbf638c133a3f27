//! The beginning of a session with the server, up to its first ReadyForQuery.
//!
//! ```text
//!  StartupMessage ─► AuthenticationOk ────────────────► settings, key data ─► ReadyForQuery
//!        └► SASL ─► continue ─► final ─► Ok ──┘
//! ```

use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use zeroize::Zeroizing;

use super::server::is_readable;
use crate::wire::{Fields, Head, Reported, WireError, encode, head, parameter_status, reported};

/// The most that a server may send before its first ReadyForQuery.
const MAX_WELCOME: usize = 64 * 1024;
/// The most rounds of hashing that a server may ask for; PostgreSQL's own default is 4096.
const MAX_ITERATIONS: u32 = 1_000_000;

/// A password for a database account.
pub(crate) type Secret = Zeroizing<Vec<u8>>;

/// What a server said when it was ready.
#[derive(Debug)]
pub(crate) struct Welcome {
    /// Its settings and notices, as they are for the client.
    pub(crate) messages: BytesMut,
    /// Its process id and secret, for a cancel.
    pub(crate) key: Option<(u32, Zeroizing<Vec<u8>>)>,
    /// The state of the transaction.
    pub(crate) status: u8,
}

/// Why a server gave no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BackError {
    /// It says why.
    #[error("{0}")]
    Reported(Reported),
    /// It sends what is no message.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// It asks for a kind of proof that is not given.
    #[error("the database asks for {0}, which is not configured for it here")]
    Authentication(&'static str),
    /// SCRAM failed: the password is wrong, or the server does not know it.
    #[error("authentication by SCRAM failed: {0}")]
    Scram(String),
    /// The client asked for an encoding in which its statements could not be judged.
    #[error(
        "client encodings in which a backslash can be part of a character are not allowed: use UTF8"
    )]
    Encoding,
    /// It is not read only although it was asked to be.
    #[error("the database does not hold the session to reading only")]
    NotReadOnly,
}

enum State {
    Begun,
    Scram(Box<ScramSha256>),
    Verified,
    Accepted,
}

/// The beginning of a session with the server.
pub(crate) struct Back {
    state: State,
    password: Option<Secret>,
    read_only: bool,
    welcome: Welcome,
}

impl Back {
    /// With the password, if there is one.
    pub(crate) fn new(password: Option<Secret>, read_only: bool) -> Self {
        let welcome = Welcome { messages: BytesMut::new(), key: None, status: b'I' };
        Self { state: State::Begun, password, read_only, welcome }
    }

    /// Takes what the server sent; returns what is to be sent, and whether it is ready. What
    /// comes after its ReadyForQuery stays in the buffer.
    ///
    /// # Errors
    /// [`BackError`].
    pub(crate) fn server(
        &mut self,
        buf: &mut BytesMut,
        out: &mut Vec<Bytes>,
    ) -> Result<bool, BackError> {
        while let Some(head) = head(buf)? {
            if self.welcome.messages.len() + head.total > MAX_WELCOME {
                let length = u32::try_from(head.total - 1).unwrap_or(u32::MAX);
                return Err(WireError::Length { kind: char::from(head.kind), length }.into());
            }
            if buf.len() < head.total {
                break;
            }
            let message = buf.split_to(head.total);
            let body = message.get(Head::LEN..).unwrap_or_default();
            let accepted = matches!(self.state, State::Accepted);
            match head.kind {
                b'E' => return Err(BackError::Reported(reported(body))),
                b'R' if !accepted => self.authentication(body, out)?,
                b'N' => self.welcome.messages.extend_from_slice(&message),
                b'S' if accepted => {
                    self.setting(body)?;
                    self.welcome.messages.extend_from_slice(&message);
                }
                b'K' if accepted => {
                    let mut fields = Fields::new(body);
                    let id = fields.u32().ok_or(WireError::Malformed('K'))?;
                    self.welcome.key = Some((id, Zeroizing::new(fields.rest().to_vec())));
                }
                b'Z' if accepted => {
                    self.welcome.status = body.first().copied().unwrap_or(b'I');
                    return Ok(true);
                }
                // We ask for 3.0 and no options: there is nothing to negotiate.
                other => return Err(WireError::Unexpected(char::from(other)).into()),
            }
        }
        Ok(false)
    }

    /// What the server said, once it is ready.
    pub(crate) fn welcome(self) -> Welcome {
        self.welcome
    }

    fn setting(&self, body: &[u8]) -> Result<(), BackError> {
        match parameter_status(body) {
            Some((b"default_transaction_read_only", b"off")) if self.read_only => {
                Err(BackError::NotReadOnly)
            }
            Some((b"client_encoding", name)) if !is_readable(name) => Err(BackError::Encoding),
            _ => Ok(()),
        }
    }

    fn authentication(&mut self, body: &[u8], out: &mut Vec<Bytes>) -> Result<(), BackError> {
        let mut fields = Fields::new(body);
        let kind = fields.u32().ok_or(WireError::Malformed('R'))?;
        let scram = |err: std::io::Error| BackError::Scram(err.to_string());
        self.state = match (kind, std::mem::replace(&mut self.state, State::Begun)) {
            // A server that was asked for SCRAM and did not prove that it knows the password is
            // taken only when its certificate has said who it is, which the dialler sees to.
            (0, State::Begun | State::Verified) => State::Accepted,
            (10, State::Begun) => {
                let password = self
                    .password
                    .as_ref()
                    .ok_or(BackError::Authentication("a password (SCRAM)"))?;
                let mut offered = std::iter::from_fn(|| fields.text().filter(|m| !m.is_empty()));
                if !offered.any(|mechanism| mechanism == SCRAM_SHA_256.as_bytes()) {
                    return Err(BackError::Authentication("an unknown SASL mechanism"));
                }
                let scram = ScramSha256::new(password, ChannelBinding::unsupported());
                out.push(encode::sasl_initial(SCRAM_SHA_256, scram.message()));
                State::Scram(Box::new(scram))
            }
            (11, State::Scram(mut state)) => {
                check_iterations(fields.rest())?;
                state.update(fields.rest()).map_err(scram)?;
                out.push(encode::sasl_response(state.message()));
                State::Scram(state)
            }
            (12, State::Scram(mut state)) => {
                state.finish(fields.rest()).map_err(scram)?;
                State::Verified
            }
            (3, _) => return Err(BackError::Authentication("a password in clear text")),
            (5, _) => return Err(BackError::Authentication("a password by MD5")),
            (7..=9, _) => return Err(BackError::Authentication("GSSAPI or SSPI")),
            _ => return Err(WireError::Unexpected('R').into()),
        };
        Ok(())
    }
}

/// Hashing takes time, and the server says how much of it.
fn check_iterations(message: &[u8]) -> Result<(), BackError> {
    let text = String::from_utf8_lossy(message);
    let asked = text.split(',').find_map(|part| part.strip_prefix("i="));
    match asked.and_then(|count| count.parse::<u32>().ok()) {
        Some(0..=MAX_ITERATIONS) => Ok(()),
        _ => Err(BackError::Scram("the server asks for too many rounds of hashing".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Failure;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        encode::message(kind, |out| out.extend_from_slice(body)).to_vec()
    }

    fn greeting() -> Vec<u8> {
        [
            message(b'R', &[0; 4]),
            message(b'S', b"server_version\x0015.1\0"),
            message(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]),
            message(b'Z', b"I"),
        ]
        .concat()
    }

    #[test]
    fn a_greeting_is_read_wherever_it_is_cut() {
        let greeting = [greeting(), b"more".to_vec()].concat();
        for cut in 0..greeting.len() - 4 {
            let mut back = Back::new(None, false);
            let mut out = Vec::new();
            let mut buf = BytesMut::from(&greeting[..cut]);
            assert!(!back.server(&mut buf, &mut out).unwrap());
            buf.extend_from_slice(&greeting[cut..]);
            assert!(back.server(&mut buf, &mut out).unwrap());
            assert_eq!(&buf[..], b"more");
            let welcome = back.welcome();
            assert_eq!(welcome.key.unwrap(), (7, Zeroizing::new(vec![1, 2, 3, 4])));
            assert_eq!(&welcome.messages[..], message(b'S', b"server_version\x0015.1\0"));
        }
    }

    #[test]
    fn hostile_servers_are_refused() {
        let refused = |bytes: Vec<u8>| {
            let mut back = Back::new(Some(Zeroizing::new(b"secret".to_vec())), true);
            let mut out = Vec::new();
            let mut buf = BytesMut::from(&bytes[..]);
            let err = back.server(&mut buf, &mut out).unwrap_err();
            assert!(out.iter().all(|sent| !sent.windows(6).any(|w| w == b"secret")));
            err
        };
        let ok = message(b'R', &[0; 4]);
        let error = encode::error_response(&Failure::fatal("28P01", "no"));
        assert!(matches!(refused(error.to_vec()), BackError::Reported(_)));
        assert!(matches!(refused(message(b'R', &[0, 0, 0, 3])), BackError::Authentication(_)));
        assert!(matches!(
            refused(message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4])),
            BackError::Authentication(_)
        ));
        assert!(matches!(refused(message(b'Z', b"I")), BackError::Wire(_)));
        assert!(matches!(
            refused([ok.clone(), message(b'D', &[0; 9])].concat()),
            BackError::Wire(_)
        ));
        assert!(matches!(refused(message(b'S', &[0; 70_000])), BackError::Wire(_)));
        assert!(matches!(refused(vec![b'R', 0x7f, 0xff, 0xff, 0xff]), BackError::Wire(_)));
        let off = message(b'S', b"default_transaction_read_only\0off\0");
        assert!(matches!(refused([ok, off].concat()), BackError::NotReadOnly));
    }

    #[test]
    fn a_server_cannot_ask_for_hours_of_hashing() {
        assert!(check_iterations(b"r=x,s=y,i=4096").is_ok());
        for message in [&b"r=x,s=y,i=4000000000"[..], b"r=x,s=y", b"i=99999999999"] {
            assert!(check_iterations(message).is_err());
        }
    }
}
