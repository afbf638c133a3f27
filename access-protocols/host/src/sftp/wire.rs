//! Packets: a length, a type, mostly a request id, then fields (draft-ietf-secsh-filexfer-02,
//! section 3).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;

/// The longest packet that is taken, as in OpenSSH; longer ones end the session.
pub(super) const MAX_PACKET: usize = 256 * 1024;

/// Most of file content in one packet, leaving room for the fields around it.
pub(super) const MAX_DATA: usize = MAX_PACKET - 1024;

/// Requests.
pub(super) mod request {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const SETSTAT: u8 = 9;
    pub(crate) const FSETSTAT: u8 = 10;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const RMDIR: u8 = 15;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const READLINK: u8 = 19;
    pub(crate) const SYMLINK: u8 = 20;
    pub(crate) const EXTENDED: u8 = 200;
}

/// Replies.
pub(super) mod reply {
    pub(crate) const VERSION: u8 = 2;
    pub(crate) const STATUS: u8 = 101;
    pub(crate) const HANDLE: u8 = 102;
    pub(crate) const DATA: u8 = 103;
    pub(crate) const NAME: u8 = 104;
    pub(crate) const ATTRS: u8 = 105;
    pub(crate) const EXTENDED_REPLY: u8 = 201;
}

/// Outcomes, as SSH_FXP_STATUS carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

impl Status {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Ok => "Success",
            Self::Eof => "End of file",
            Self::NoSuchFile => "No such file",
            Self::PermissionDenied => "Permission denied",
            Self::Failure => "Failure",
            Self::BadMessage => "Bad message",
            Self::Unsupported => "Operation unsupported",
        }
    }
}

impl From<Errno> for Status {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::EBADF | Errno::ELOOP => Self::NoSuchFile,
            Errno::EPERM | Errno::EACCES | Errno::EFAULT => Self::PermissionDenied,
            Errno::ENAMETOOLONG | Errno::EINVAL => Self::BadMessage,
            Errno::ENOSYS | Errno::EOPNOTSUPP => Self::Unsupported,
            _ => Self::Failure,
        }
    }
}

impl From<std::io::Error> for Status {
    fn from(err: std::io::Error) -> Self {
        match err.raw_os_error() {
            Some(errno) => Self::from(Errno::from_raw(errno)),
            // Made up by the standard library: a path with a zero byte.
            None => Self::BadMessage,
        }
    }
}

/// The fields of a request, taken from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn u8(&mut self) -> Result<u8, Status> {
        let (value, rest) = self.0.split_first().ok_or(Status::BadMessage)?;
        self.0 = rest;
        Ok(*value)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Status> {
        let (value, rest) = self.0.split_first_chunk().ok_or(Status::BadMessage)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*value))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Status> {
        let (value, rest) = self.0.split_first_chunk().ok_or(Status::BadMessage)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*value))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Status> {
        let length = usize::try_from(self.u32()?).map_err(|_| Status::BadMessage)?;
        let (value, rest) = self.0.split_at_checked(length).ok_or(Status::BadMessage)?;
        self.0 = rest;
        Ok(value)
    }

    /// A path; an empty one means the directory where the session started.
    pub(super) fn path(&mut self) -> Result<PathBuf, Status> {
        let bytes = self.bytes()?;
        let bytes = if bytes.is_empty() { b"." } else { bytes };
        Ok(PathBuf::from(OsStr::from_bytes(bytes)))
    }
}

/// Replies, one after another, until they are sent.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
}

impl Output {
    /// Appends a packet whose body `fill` writes. When that fails, the packet is taken back.
    pub(super) fn packet(
        &mut self,
        kind: u8,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let start = self.bytes.len();
        self.bytes.extend([0, 0, 0, 0, kind]);
        let filled = fill(&mut self.bytes);
        let length = self.bytes.len().saturating_sub(start + 4);
        let filled = filled.and_then(|()| u32::try_from(length).map_err(|_| Status::Failure));
        match filled {
            Ok(length) => {
                if let Some(slot) = self.bytes.get_mut(start..start + 4) {
                    slot.copy_from_slice(&length.to_be_bytes());
                }
                Ok(())
            }
            Err(status) => {
                self.bytes.truncate(start);
                Err(status)
            }
        }
    }

    pub(super) fn status(&mut self, id: u32, status: Status) {
        // The body can't fail.
        let _ = self.packet(reply::STATUS, |out| {
            put_u32(out, id);
            put_u32(out, status as u32);
            put_bytes(out, status.text().as_bytes());
            put_bytes(out, b"");
            Ok(())
        });
    }
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_be_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_be_bytes());
}

/// A string; what would not fit into its length is cut, which no packet here comes near.
pub(super) fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    put_u32(out, length);
    out.extend(value.iter().take(usize::try_from(length).unwrap_or(usize::MAX)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_where_the_packet_does() {
        let mut out = Vec::new();
        put_u32(&mut out, 7);
        put_bytes(&mut out, b"name");
        put_u64(&mut out, 1 << 40);
        let mut fields = Fields(&out);
        assert_eq!(fields.u32(), Ok(7));
        assert_eq!(fields.bytes(), Ok(&b"name"[..]));
        assert_eq!(fields.u64(), Ok(1 << 40));
        assert_eq!(fields.u8(), Err(Status::BadMessage));
        assert_eq!(Fields(&[0, 0, 0, 9, 1]).bytes(), Err(Status::BadMessage));
        assert_eq!(Fields(&[0xff, 0xff, 0xff, 0xff]).bytes(), Err(Status::BadMessage));
    }

    #[test]
    fn a_packet_that_fails_leaves_nothing() {
        let mut output = Output::default();
        output.status(1, Status::Ok);
        let before = output.bytes.clone();
        let failed = output.packet(reply::DATA, |out| {
            out.extend([1; 100]);
            Err(Status::Eof)
        });
        assert_eq!(failed, Err(Status::Eof));
        assert_eq!(output.bytes, before);
        assert_eq!(before.len(), 4 + u32::from_be_bytes(before[..4].try_into().unwrap()) as usize);
    }
}
