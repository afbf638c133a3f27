//! Messages that are sent from here.

use bytes::{BufMut, Bytes, BytesMut};

use super::failure::Failure;
use super::startup::{CANCEL, SSL};

/// A message with a type; its length is filled in.
pub(crate) fn message(kind: u8, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    append(&mut out, kind, body);
    out.freeze()
}

pub(crate) fn append(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    framed(out, body);
}

/// A packet without a type.
fn packet(body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    framed(&mut out, body);
    out.freeze()
}

fn framed(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    body(out);
    // What is encoded here is far below the limit of a length.
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// A text and its zero byte; what follows a zero byte within it is left out.
fn text(out: &mut BytesMut, text: &str) {
    let text = text.split('\0').next().unwrap_or_default();
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

pub(crate) fn error_response(failure: &Failure) -> Bytes {
    message(b'E', |out| {
        let severity = if failure.fatal { "FATAL" } else { "ERROR" };
        let mut field = |kind: u8, value: &str| {
            out.put_u8(kind);
            text(out, value);
        };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', &failure.code);
        field(b'M', &failure.message);
        if let Some(detail) = &failure.detail {
            field(b'D', detail);
        }
        if let Some(hint) = &failure.hint {
            field(b'H', hint);
        }
        out.put_u8(0);
    })
}

pub(crate) fn authentication_ok(out: &mut BytesMut) {
    append(out, b'R', |out| out.put_u32(0));
}

/// The newest minor version that is spoken here, and the protocol options that are not.
pub(crate) fn negotiate_version(out: &mut BytesMut, minor: u16, unknown: &[String]) {
    append(out, b'v', |out| {
        out.put_u32((3 << 16) | u32::from(minor));
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
        for option in unknown {
            text(out, option);
        }
    });
}

pub(crate) fn key_data(out: &mut BytesMut, process_id: u32, secret: &[u8]) {
    append(out, b'K', |out| {
        out.put_u32(process_id);
        out.put_slice(secret);
    });
}

pub(crate) fn ready_for_query(out: &mut BytesMut, status: u8) {
    append(out, b'Z', |out| out.put_u8(status));
}

pub(crate) fn startup(parameters: &[(String, String)]) -> Bytes {
    packet(|out| {
        out.put_u32(3 << 16);
        for (name, value) in parameters {
            text(out, name);
            text(out, value);
        }
        out.put_u8(0);
    })
}

pub(crate) fn ssl_request() -> Bytes {
    packet(|out| out.put_u32(SSL))
}

pub(crate) fn cancel(process_id: u32, secret: &[u8]) -> Bytes {
    packet(|out| {
        out.put_u32(CANCEL);
        out.put_u32(process_id);
        out.put_slice(secret);
    })
}

pub(crate) fn terminate() -> Bytes {
    message(b'X', |_| ())
}

pub(crate) fn flush() -> Bytes {
    message(b'H', |_| ())
}

pub(crate) fn query(statement: &str) -> Bytes {
    message(b'Q', |out| text(out, statement))
}

pub(crate) fn parse(name: &str, statement: &str) -> Bytes {
    message(b'P', |out| {
        text(out, name);
        text(out, statement);
        out.put_u16(0);
    })
}

/// A call of the function that never exists.
pub(crate) fn call_of_nothing() -> Bytes {
    message(b'F', |out| {
        out.put_u32(0);
        out.put_u16(0);
        out.put_u16(0);
        out.put_u16(0);
    })
}

pub(crate) fn sasl_initial(mechanism: &str, data: &[u8]) -> Bytes {
    message(b'p', |out| {
        text(out, mechanism);
        out.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
        out.put_slice(data);
    })
}

pub(crate) fn sasl_response(data: &[u8]) -> Bytes {
    message(b'p', |out| out.put_slice(data))
}
