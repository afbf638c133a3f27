//! Just enough DER (X.690) to write a certificate.
//!
//! Leaves are encoded here rather than by rcgen because issuing one is on the path of every login,
//! and rcgen takes several times as long for it: beside a P-256 signature of 20 µs, that is what
//! decides whether four fifths of the raw signature rate are kept. Authorities' roots, which are
//! rare, are made by rcgen.

use access_core::Timestamp;
use time::OffsetDateTime;

pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// `[n]`, holding a primitive value.
    pub(crate) const fn context(n: u8) -> u8 {
        0x80 | n
    }

    /// `[n]`, holding other values.
    pub(crate) const fn context_constructed(n: u8) -> u8 {
        0xa0 | n
    }
}

/// Writes values one after the other.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A value that is encoded already.
    pub(crate) fn raw(&mut self, der: &[u8]) {
        self.0.extend_from_slice(der);
    }

    /// A primitive value.
    pub(crate) fn value(&mut self, tag: u8, content: &[u8]) {
        self.0.push(tag);
        let (length, used) = length_octets(content.len());
        self.0.extend(length.iter().take(used));
        self.0.extend_from_slice(content);
    }

    /// A value that holds what `content` writes.
    pub(crate) fn nested(&mut self, tag: u8, content: impl FnOnce(&mut Self)) {
        self.0.push(tag);
        let at = self.0.len();
        // Room for the length of a short value; a longer one is moved up.
        self.0.push(0);
        let start = self.0.len();
        content(self);
        let end = self.0.len();
        let (length, used) = length_octets(end - start);
        if used > 1 {
            self.0.resize(end + used - 1, 0);
            self.0.copy_within(start..end, at + used);
        }
        for (to, from) in self.0.iter_mut().skip(at).zip(length.iter().take(used)) {
            *to = *from;
        }
    }

    /// A positive INTEGER from its big-endian bytes.
    pub(crate) fn positive_integer(&mut self, mut bytes: &[u8]) {
        while let [0, rest @ ..] = bytes {
            bytes = rest;
        }
        self.nested(tag::INTEGER, |w| {
            // A leading one would make the number negative, and no byte at all none.
            if bytes.first().is_none_or(|first| first & 0x80 != 0) {
                w.0.push(0);
            }
            w.raw(bytes);
        });
    }

    /// A BIT STRING of whole bytes.
    pub(crate) fn bit_string(&mut self, bytes: &[u8]) {
        self.nested(tag::BIT_STRING, |w| {
            w.0.push(0);
            w.raw(bytes);
        });
    }

    /// A moment, to the second (RFC 5280, section 4.1.2.5): two digits of the year until 2049.
    pub(crate) fn time(&mut self, at: Timestamp) {
        let at =
            OffsetDateTime::from_unix_timestamp(at.as_secs()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let year = u16::try_from(at.year()).unwrap_or(0);
        let short = (1950..2050).contains(&year);
        self.nested(if short { tag::UTC_TIME } else { tag::GENERALIZED_TIME }, |w| {
            let century = u8::try_from(year / 100).unwrap_or(0);
            let in_century = u8::try_from(year % 100).unwrap_or(0);
            if !short {
                w.two_digits(century);
            }
            for part in
                [in_century, u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second()]
            {
                w.two_digits(part);
            }
            w.0.push(b'Z');
        });
    }

    fn two_digits(&mut self, number: u8) {
        self.0.push(b'0' + number / 10 % 10);
        self.0.push(b'0' + number % 10);
    }
}

/// The content of an OBJECT IDENTIFIER with these arcs (X.690, section 8.19).
pub(crate) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    let Some(([first, second], rest)) = arcs.split_first_chunk() else {
        return content;
    };
    base128(first.saturating_mul(40).saturating_add(*second), &mut content);
    for arc in rest {
        base128(*arc, &mut content);
    }
    content
}

fn base128(value: u64, out: &mut Vec<u8>) {
    let groups = (64 - value.leading_zeros()).div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let low = u8::try_from(value >> (7 * group) & 0x7f).unwrap_or(0);
        out.push(if group == 0 { low } else { low | 0x80 });
    }
}

/// The octets of a length, and how many of them count.
fn length_octets(length: usize) -> ([u8; 5], usize) {
    // Certificates are far shorter than 4 GiB: the identity in them is bounded.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let [a, b, c, d] = length.to_be_bytes();
    match length {
        0..0x80 => ([d, 0, 0, 0, 0], 1),
        0x80..0x100 => ([0x81, d, 0, 0, 0], 2),
        0x100..0x1_0000 => ([0x82, c, d, 0, 0], 3),
        0x1_0000..0x100_0000 => ([0x83, b, c, d, 0], 4),
        _ => ([0x84, a, b, c, d], 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::with_capacity(0);
        write(&mut w);
        w.into_bytes()
    }

    #[test]
    fn integers_are_positive_and_shortest() {
        assert_eq!(written(|w| w.positive_integer(&[0, 0])), [2, 1, 0]);
        assert_eq!(written(|w| w.positive_integer(&[0, 0x7f])), [2, 1, 0x7f]);
        assert_eq!(written(|w| w.positive_integer(&[0x80])), [2, 2, 0, 0x80]);
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        for (length, head) in [
            (0x7f, vec![4, 0x7f]),
            (0x80, vec![4, 0x81, 0x80]),
            (0x1234, vec![4, 0x82, 0x12, 0x34]),
            (0x12345, vec![4, 0x83, 0x01, 0x23, 0x45]),
        ] {
            let content = vec![7; length];
            let primitive = written(|w| w.value(tag::OCTET_STRING, &content));
            let nested = written(|w| w.nested(tag::OCTET_STRING, |w| w.raw(&content)));
            assert_eq!(primitive, nested);
            assert_eq!(primitive[..head.len()], head);
            assert_eq!(primitive[head.len()..], content);
        }
    }

    #[test]
    fn times_change_their_form_in_2050() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(written(|w| w.time(at("2049-12-31T23:59:59.9Z")))[2..], *b"491231235959Z");
        assert_eq!(written(|w| w.time(at("2050-01-01T00:00:00Z")))[2..], *b"20500101000000Z");
        assert_eq!(written(|w| w.time(at("1999-02-03T04:05:06Z")))[..2], [0x17, 13]);
    }

    #[test]
    fn object_identifiers_match_the_parser_of_others() {
        for arcs in [&[1, 2, 840, 10045, 2, 1][..], &[2, 5, 4, 3], &[2, 25, u64::MAX]] {
            let theirs = x509_parser::der_parser::oid::Oid::from(arcs).unwrap();
            assert_eq!(oid(arcs), theirs.as_bytes());
        }
    }
}
