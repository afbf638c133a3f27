//! Values as the wire has them.

use bytes::{Buf, Bytes};

pub(super) const BYTEA: u32 = 17;
pub(super) const INT8: u32 = 20;
pub(super) const TEXT: u32 = 25;
pub(super) const FLOAT8: u32 = 701;
pub(super) const BYTEAS: u32 = 1001;
pub(super) const INT2S: u32 = 1005;
pub(super) const TEXTS: u32 = 1009;
pub(super) const INT8S: u32 = 1016;
pub(super) const MOMENT: u32 = 1184;
pub(super) const MOMENTS: u32 = 1185;
pub(super) const UUID: u32 = 2950;
pub(super) const UUIDS: u32 = 2951;

pub(super) fn int(raw: &Bytes) -> i64 {
    i64::from_be_bytes(raw[..].try_into().unwrap())
}

pub(super) fn of_int(number: i64) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(&number.to_be_bytes()))
}

pub(super) fn string(body: &mut Bytes) -> String {
    let end = body.iter().position(|byte| *byte == 0).unwrap();
    let text = String::from_utf8(body.split_to(end).to_vec()).unwrap();
    body.advance(1);
    text
}

pub(super) fn field(body: &mut Bytes) -> Option<Bytes> {
    let len = body.get_i32();
    usize::try_from(len).ok().map(|len| body.split_to(len))
}

/// <https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c>, `array_recv`.
pub(super) fn array(raw: &Bytes) -> Vec<Option<Bytes>> {
    let mut raw = raw.clone();
    let dimensions = raw.get_i32();
    raw.advance(8);
    if dimensions == 0 {
        return Vec::new();
    }
    let len = raw.get_i32();
    raw.advance(4);
    (0..len).map(|_| field(&mut raw)).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

pub(super) fn hlc(wall: u64) -> String {
    format!("{wall}.0000000000")
}

pub(super) fn shown(micros: i64) -> String {
    let nanos = (i128::from(micros) + 946_684_800_000_000) * 1000;
    let moment = time::OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
    moment.format(&time::format_description::well_known::Rfc3339).unwrap()
}

pub(super) fn uuid(raw: &[u8]) -> String {
    let digits = hex(raw);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}
