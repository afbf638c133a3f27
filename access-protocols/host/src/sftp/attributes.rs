//! File attributes (draft-ietf-secsh-filexfer-02, section 5).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::wire::{Fields, Status, put_u32, put_u64};

const SIZE: u32 = 1;
const UIDGID: u32 = 2;
const PERMISSIONS: u32 = 4;
const ACMODTIME: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// What a client asks to set; `None` is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// Uid and gid.
    pub(super) owner: Option<(u32, u32)>,
    /// Mode bits; the type among them is ignored.
    pub(super) mode: Option<u32>,
    /// Seconds since the epoch of last access and modification.
    pub(super) times: Option<(u32, u32)>,
}

impl Attributes {
    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, Status> {
        let flags = fields.u32()?;
        let mut attributes = Self::default();
        if flags & SIZE != 0 {
            attributes.size = Some(fields.u64()?);
        }
        if flags & UIDGID != 0 {
            attributes.owner = Some((fields.u32()?, fields.u32()?));
        }
        if flags & PERMISSIONS != 0 {
            attributes.mode = Some(fields.u32()? & 0o7777);
        }
        if flags & ACMODTIME != 0 {
            attributes.times = Some((fields.u32()?, fields.u32()?));
        }
        if flags & EXTENDED != 0 {
            // Each takes bytes from the packet, which bounds the loop.
            for _ in 0..fields.u32()? {
                fields.bytes()?;
                fields.bytes()?;
            }
        }
        Ok(attributes)
    }
}

/// Writes everything that version 3 can say about a file. Its times have 32 bits.
pub(super) fn encode(out: &mut Vec<u8>, metadata: &Metadata) {
    let seconds = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
    put_u32(out, SIZE | UIDGID | PERMISSIONS | ACMODTIME);
    put_u64(out, metadata.size());
    put_u32(out, metadata.uid());
    put_u32(out, metadata.gid());
    put_u32(out, metadata.mode());
    put_u32(out, seconds(metadata.atime()));
    put_u32(out, seconds(metadata.mtime()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let mut out = Vec::new();
        encode(&mut out, &metadata);
        let mut fields = Fields(&out);
        let attributes = Attributes::decode(&mut fields).unwrap();
        assert_eq!(attributes.size, Some(0));
        assert_eq!(attributes.mode, Some(metadata.mode() & 0o7777));
        assert!(fields.0.is_empty());
        // A count of extended pairs that the packet does not hold.
        let hostile = [EXTENDED.to_be_bytes(), u32::MAX.to_be_bytes()].concat();
        assert_eq!(Attributes::decode(&mut Fields(&hostile)), Err(Status::BadMessage));
    }
}
