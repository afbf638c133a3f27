//! Frames: their bytes, their checksums, their chain.

use ring::digest::{Context, SHA256};

/// The first bytes of every recording. The line end shows transfers that "fix" line ends.
pub(super) const MAGIC: [u8; 8] = *b"ACSREC\r\n";
/// The version that is written.
pub(super) const VERSION: u16 = 1;
pub(super) const PREFIX_LEN: usize = 12;
pub(super) const HEADER_LEN: usize = 24;
pub(super) const CHAIN_LEN: usize = 32;

/// A chunk is closed when its lines have this many bytes.
pub(super) const CHUNK_TARGET: usize = 64 * 1024;
/// No frame has more, stored or decompressed: what claims to is refused before it is read, so
/// that a file can make nobody allocate more.
pub(super) const MAX_BODY: usize = 256 * 1024;

pub(super) const META: u8 = b'M';
pub(super) const CHUNK: u8 = b'C';
pub(super) const END: u8 = b'E';
pub(super) const SIGNATURE: u8 = b'S';

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Terminal output compresses well at any level; the first costs a session the least.
const LEVEL: i32 = 1;

pub(super) fn prefix() -> [u8; PREFIX_LEN] {
    let [a, b] = VERSION.to_be_bytes();
    let [m0, m1, m2, m3, m4, m5, m6, m7] = MAGIC;
    [m0, m1, m2, m3, m4, m5, m6, m7, a, b, 0, 0]
}

/// The running hash over everything until now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain([u8; CHAIN_LEN]);

impl Chain {
    pub(super) fn start(prefix: &[u8]) -> Self {
        Self::of(&[b"access recording\0", prefix])
    }

    pub(super) fn next(&self, header: &[u8], body: &[u8]) -> Self {
        Self::of(&[&self.0, header, body])
    }

    pub(super) fn as_bytes(&self) -> &[u8; CHAIN_LEN] {
        &self.0
    }

    /// What a recorder signs.
    pub(super) fn signed_message(&self) -> Vec<u8> {
        [b"access recording signature\0".as_slice(), &self.0].concat()
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        let mut hash = [0; CHAIN_LEN];
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(hash)
    }
}

/// Appends a frame to `out` and returns the chain after it.
///
/// `body` has at most [`MAX_BODY`] bytes; its callers see to that.
pub(super) fn write(chain: Chain, kind: u8, index: u32, body: &[u8], out: &mut Vec<u8>) -> Chain {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    let codec = if compress(body, out) {
        ZSTD
    } else {
        out.extend_from_slice(body);
        PLAIN
    };
    let stored = out.get(start + HEADER_LEN..).unwrap_or_default();
    let header = Header {
        kind,
        codec,
        index,
        stored: u32::try_from(stored.len()).unwrap_or(u32::MAX),
        plain: u32::try_from(body.len()).unwrap_or(u32::MAX),
        crc: crc32c::crc32c(stored),
    }
    .to_bytes();
    let chain = chain.next(&header, stored);
    if let Some(room) = out.get_mut(start..start + HEADER_LEN) {
        room.copy_from_slice(&header);
    }
    out.extend_from_slice(chain.as_bytes());
    chain
}

/// Appends the compressed body when that is smaller.
fn compress(body: &[u8], out: &mut Vec<u8>) -> bool {
    use std::cell::RefCell;
    use zstd::bulk::Compressor;
    // A compressor keeps hundreds of kilobytes: one a thread, not one a session.
    thread_local! {
        static STATE: RefCell<(Option<Compressor<'static>>, Vec<u8>)> =
            const { RefCell::new((None, Vec::new())) };
    }
    STATE.with_borrow_mut(|(compressor, scratch)| {
        if compressor.is_none() {
            *compressor = Compressor::new(LEVEL).ok();
        }
        let Some(compressor) = compressor else { return false };
        scratch.clear();
        scratch.reserve(zstd::compress_bound(body.len()));
        match compressor.compress_to_buffer(body, scratch) {
            Ok(size) if size < body.len() => {
                out.extend_from_slice(scratch.get(..size).unwrap_or_default());
                true
            }
            _ => false,
        }
    })
}

/// The head of a frame whose own checksum is right and whose lengths are within bounds.
pub(super) struct Header {
    pub(super) kind: u8,
    codec: u8,
    pub(super) index: u32,
    stored: u32,
    plain: u32,
    crc: u32,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut parts = [self.kind, self.codec, 0, 0]
            .into_iter()
            .chain(self.index.to_be_bytes())
            .chain(self.stored.to_be_bytes())
            .chain(self.plain.to_be_bytes())
            .chain(self.crc.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(&mut parts) {
            *to = from;
        }
        let own = crc32c::crc32c(bytes.get(..HEADER_LEN - 4).unwrap_or_default());
        for (to, from) in bytes.iter_mut().skip(HEADER_LEN - 4).zip(own.to_be_bytes()) {
            *to = from;
        }
        bytes
    }

    pub(super) fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, &'static str> {
        let [
            kind,
            codec,
            r0,
            r1,
            i0,
            i1,
            i2,
            i3,
            s0,
            s1,
            s2,
            s3,
            p0,
            p1,
            p2,
            p3,
            c0,
            c1,
            c2,
            c3,
            h0,
            h1,
            h2,
            h3,
        ] = *bytes;
        let own = crc32c::crc32c(bytes.get(..HEADER_LEN - 4).unwrap_or_default());
        if own != u32::from_be_bytes([h0, h1, h2, h3]) {
            return Err("the checksum of a frame's header is wrong");
        }
        let header = Self {
            kind,
            codec,
            index: u32::from_be_bytes([i0, i1, i2, i3]),
            stored: u32::from_be_bytes([s0, s1, s2, s3]),
            plain: u32::from_be_bytes([p0, p1, p2, p3]),
            crc: u32::from_be_bytes([c0, c1, c2, c3]),
        };
        if [r0, r1] != [0, 0] || ![PLAIN, ZSTD].contains(&codec) {
            return Err("a frame is of no known form");
        }
        if header.stored_len() > MAX_BODY || header.plain_len() > MAX_BODY {
            return Err("a frame is larger than any may be");
        }
        Ok(header)
    }

    pub(super) fn stored_len(&self) -> usize {
        usize::try_from(self.stored).unwrap_or(usize::MAX)
    }

    fn plain_len(&self) -> usize {
        usize::try_from(self.plain).unwrap_or(usize::MAX)
    }

    /// Whether the stored body is what was written: a wrong checksum speaks of a bad disk, where
    /// a right one that breaks the chain speaks of somebody.
    pub(super) fn is_intact(&self, stored: &[u8]) -> bool {
        crc32c::crc32c(stored) == self.crc
    }

    /// Decompresses the stored body: into exactly as much as the header says.
    pub(super) fn open(&self, stored: &[u8]) -> Result<Vec<u8>, &'static str> {
        let plain_len = self.plain_len();
        if self.codec == PLAIN {
            return if stored.len() == plain_len {
                Ok(stored.to_vec())
            } else {
                Err("a frame has two different lengths")
            };
        }
        let mut plain = vec![0; plain_len];
        let size = zstd::bulk::Decompressor::new()
            .and_then(|mut zstd| zstd.decompress_to_buffer(stored, plain.as_mut_slice()))
            .map_err(|_| "a frame can't be decompressed")?;
        if size == plain_len { Ok(plain) } else { Err("a frame has two different lengths") }
    }
}
