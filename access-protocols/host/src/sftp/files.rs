//! Opening, reading and writing files.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::attributes::Attributes;
use super::wire::{MAX_DATA, Status};

const READ: u32 = 0x01;
const WRITE: u32 = 0x02;
const APPEND: u32 = 0x04;
const CREATE: u32 = 0x08;
const TRUNCATE: u32 = 0x10;
const EXCLUSIVE: u32 = 0x20;

/// Opens a file with SSH_FXF flags; also returns whether it appends.
pub(super) fn open(
    path: &Path,
    flags: u32,
    attributes: Attributes,
) -> Result<(File, bool), Status> {
    let has = |flag: u32| flags & flag != 0;
    if !has(READ) && !has(WRITE) && !has(APPEND) {
        return Err(Status::BadMessage);
    }
    let mut extra = 0;
    for (flag, native) in [
        (CREATE, nix::libc::O_CREAT),
        (TRUNCATE, nix::libc::O_TRUNC),
        (EXCLUSIVE, nix::libc::O_EXCL),
    ] {
        if has(flag) {
            extra |= native;
        }
    }
    // Flags go to the system as they are: its meaning of odd combinations is what clients expect.
    let append = has(APPEND);
    let file = OpenOptions::new()
        .read(has(READ))
        .write(has(WRITE))
        .append(append)
        .mode(attributes.mode.unwrap_or(0o666))
        .custom_flags(extra)
        .open(path)?;
    Ok((file, append))
}

/// Appends up to `length` bytes of a file to `out`, after their count.
///
/// # Errors
/// [`Status::Eof`] at the end of the file.
pub(super) fn read(file: &File, offset: u64, length: u32, out: &mut Vec<u8>) -> Result<(), Status> {
    let length = usize::try_from(length).unwrap_or(MAX_DATA).min(MAX_DATA);
    let count_at = out.len();
    let data_at = count_at + 4;
    out.resize(data_at + length, 0);
    let mut got = 0;
    while got < length {
        let Some(rest) = out.get_mut(data_at + got..) else { break };
        match file.read_at(rest, offset.saturating_add(u64::try_from(got).unwrap_or(u64::MAX))) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            // A pipe or a terminal cannot be read at an offset; it has a position of its own.
            Err(err) if err.raw_os_error() == Some(nix::libc::ESPIPE) => {
                got = read_on(file, rest)?;
                break;
            }
            Err(err) => return Err(err.into()),
        }
    }
    if got == 0 && length > 0 {
        return Err(Status::Eof);
    }
    out.truncate(data_at + got);
    let count = u32::try_from(got).map_err(|_| Status::Failure)?;
    if let Some(slot) = out.get_mut(count_at..data_at) {
        slot.copy_from_slice(&count.to_be_bytes());
    }
    Ok(())
}

fn read_on(mut file: &File, buf: &mut [u8]) -> io::Result<usize> {
    io::Read::read(&mut file, buf)
}

/// Writes all of `data`, at the offset or at the end.
pub(super) fn write(file: &File, append: bool, offset: u64, data: &[u8]) -> Result<(), Status> {
    let mut sequential = file;
    if append {
        return Ok(sequential.write_all(data)?);
    }
    match file.write_all_at(data, offset) {
        Err(err) if err.raw_os_error() == Some(nix::libc::ESPIPE) => {
            Ok(sequential.write_all(data)?)
        }
        done => Ok(done?),
    }
}

/// Copies within the server, up to the end of the source when `length` is 0.
pub(super) fn copy(
    from: &File,
    mut from_offset: u64,
    length: u64,
    to: (&File, bool),
    mut to_offset: u64,
) -> Result<(), Status> {
    let mut left = if length == 0 { u64::MAX } else { length };
    let mut buffer = vec![0; MAX_DATA];
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(chunk) = buffer.get_mut(..take) else { break };
        let read = from.read_at(chunk, from_offset)?;
        if read == 0 {
            // With a length, the client was promised that much.
            return if length == 0 { Ok(()) } else { Err(Status::Eof) };
        }
        write(to.0, to.1, to_offset, chunk.get(..read).unwrap_or_default())?;
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        from_offset = from_offset.saturating_add(read);
        to_offset = to_offset.saturating_add(read);
        left = left.saturating_sub(read);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let (file, append) =
            open(&path, READ | WRITE | CREATE | EXCLUSIVE, Attributes::default()).unwrap();
        write(&file, append, 3, b"abc").unwrap();
        let mut out = vec![9];
        read(&file, 0, 100, &mut out).unwrap();
        assert_eq!(out, b"\x09\0\0\0\x06\0\0\0abc");
        assert_eq!(read(&file, 6, 1, &mut out), Err(Status::Eof));
        assert!(matches!(
            open(&path, WRITE | CREATE | EXCLUSIVE, Attributes::default()),
            Err(Status::Failure)
        ));
        let (file, append) = open(&path, APPEND, Attributes::default()).unwrap();
        write(&file, append, 0, b"d").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0abcd");
    }
}
