//! What comes before a session: packets without a type
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>, "StartupMessage").

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::WireError;
use super::fields::Fields;

/// The longest packet that is taken before a session, as with the server.
pub const MAX_STARTUP: usize = 10_000;

/// The most parameters that a StartupMessage may have.
const MAX_PARAMETERS: usize = 128;

pub(crate) const SSL: u32 = code(5679);
pub(crate) const GSSENC: u32 = code(5680);
pub(crate) const CANCEL: u32 = code(5678);

const fn code(minor: u32) -> u32 {
    (1234 << 16) | minor
}

/// A packet that a client can send before there is a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// It asks for TLS.
    Ssl,
    /// It asks for encryption by GSSAPI.
    GssEnc,
    /// It wants a query of another connection cancelled.
    Cancel(CancelRequest),
    /// It wants a session.
    Startup(Startup),
}

/// A client's wish that the query of a session be cancelled.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// The number that the session's client was told.
    pub process_id: u32,
    secret: Zeroizing<Vec<u8>>,
}

impl CancelRequest {
    /// The secret that a session's client was told: 4 to 256 bytes.
    pub fn new(process_id: u32, secret: impl Into<Vec<u8>>) -> Self {
        Self { process_id, secret: Zeroizing::new(secret.into()) }
    }

    /// Whether it has this secret. Takes the same time wherever they differ.
    pub fn has_secret(&self, secret: &[u8]) -> bool {
        self.secret.ct_eq(secret).into()
    }

    /// The packet as it goes over the wire.
    pub fn encode(&self) -> Vec<u8> {
        super::encode::cancel(self.process_id, &self.secret).to_vec()
    }
}

impl fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelRequest")
            .field("process_id", &self.process_id)
            .finish_non_exhaustive()
    }
}

/// What a client wants of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The minor version of protocol 3.
    pub minor: u16,
    /// Its parameters in the order in which they were sent.
    pub parameters: Vec<(String, String)>,
}

/// The packet at the start of these bytes, and its length; `None` when more bytes are needed. What
/// is needed is never more than [`MAX_STARTUP`].
///
/// # Errors
/// [`WireError`] when the bytes are no such packet.
pub fn first(bytes: &[u8]) -> Result<Option<(First, usize)>, WireError> {
    let mut fields = Fields::new(bytes);
    let Some(length) = fields.u32() else { return Ok(None) };
    let total = length as usize;
    if !(8..=MAX_STARTUP).contains(&total) {
        return Err(WireError::StartupLength(length));
    }
    let Some(packet) = bytes.get(..total) else { return Ok(None) };
    let mut fields = Fields::new(packet.get(4..).unwrap_or_default());
    let code = fields.u32().unwrap_or_default();
    let first = match (code, total) {
        (SSL, 8) => First::Ssl,
        (GSSENC, 8) => First::GssEnc,
        // 4 bytes in protocol 3.0, up to 256 since 3.2.
        (CANCEL, 16..=268) => {
            let process_id = fields.u32().unwrap_or_default();
            First::Cancel(CancelRequest::new(process_id, fields.rest()))
        }
        (SSL | GSSENC | CANCEL, _) => return Err(WireError::StartupLength(length)),
        _ => First::Startup(startup(code, fields)?),
    };
    Ok(Some((first, total)))
}

fn startup(version: u32, mut fields: Fields<'_>) -> Result<Startup, WireError> {
    let (major, minor) = ((version >> 16) as u16, (version & 0xffff) as u16);
    if major != 3 {
        return Err(WireError::Version(major, minor));
    }
    let mut parameters = Vec::new();
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Startup("a text is not UTF-8"))
    };
    let cut = WireError::Startup("a text has no end");
    loop {
        let name = fields.text().ok_or_else(|| cut.clone())?;
        if name.is_empty() {
            break;
        }
        let value = fields.text().ok_or_else(|| cut.clone())?;
        if parameters.len() == MAX_PARAMETERS {
            return Err(WireError::Startup("too many parameters"));
        }
        parameters.push((text(name)?, text(value)?));
    }
    if !fields.is_empty() {
        return Err(WireError::Startup("expected terminator as last byte"));
    }
    Ok(Startup { minor, parameters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;
    use proptest::prelude::*;

    #[test]
    fn packets_are_read_wherever_they_are_cut() {
        let parameters = [("user".to_owned(), "alice".to_owned()), ("a".into(), String::new())];
        let packets = [
            (encode::ssl_request().to_vec(), First::Ssl),
            (vec![0, 0, 0, 8, 4, 210, 22, 48], First::GssEnc),
            (encode::cancel(7, &[1; 32]).to_vec(), First::Cancel(CancelRequest::new(7, [1; 32]))),
            (
                encode::startup(&parameters).to_vec(),
                First::Startup(Startup { minor: 0, parameters: parameters.to_vec() }),
            ),
        ];
        for (packet, expected) in packets {
            for cut in 0..packet.len() {
                assert_eq!(first(&packet[..cut]), Ok(None), "{expected:?} at {cut}");
            }
            let total = packet.len();
            assert_eq!(first(&[packet, vec![9; 5]].concat()), Ok(Some((expected, total))));
        }
    }

    #[test]
    fn hostile_packets_are_refused() {
        let packet = |length: u32, rest: &[u8]| [&length.to_be_bytes(), rest].concat();
        for length in [0, 7, 10_001, 100 * 1024, 0x7fff_ffff, u32::MAX] {
            assert_eq!(first(&packet(length, &[])), Err(WireError::StartupLength(length)));
        }
        assert_eq!(first(&packet(8, &[0, 2, 0, 0])), Err(WireError::Version(2, 0)));
        for rest in [
            &b"\0\x03\0\0user\0x"[..],
            b"\0\x03\0\0user\0x\0",
            b"\0\x03\0\0\0more",
            b"\0\x03\0\0\xff\0x\0\0",
        ] {
            let bytes = packet(4 + rest.len() as u32, rest);
            assert!(matches!(first(&bytes), Err(WireError::Startup(_))), "{rest:?}");
        }
        let cancel =
            |secret: usize| [&b"\x04\xd2\x16\x2e\0\0\0\x01"[..], &vec![0; secret]].concat();
        for secret in [0, 3, 257] {
            let bytes = packet(12 + secret as u32, &cancel(secret));
            assert!(matches!(first(&bytes), Err(WireError::StartupLength(_))), "{secret}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), len in 0u32..310) {
            let _ = first(&bytes);
            let mut bytes = bytes;
            bytes.splice(0..0, [&len.to_be_bytes()[..], &[0, 3, 0, 0]].concat());
            if let Ok(Some((_, total))) = first(&bytes) {
                prop_assert!(total <= bytes.len());
            }
        }
    }
}
