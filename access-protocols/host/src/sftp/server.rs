//! Takes requests, one after another, and answers them in that order.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::attributes::{self, Attributes};
use super::handles::{Handles, Open};
use super::listing::{self, Names};
use super::wire::{Fields, MAX_PACKET, Output, Status, put_bytes, put_u32, reply, request};
use super::{extended, files, paths};

/// The version that is spoken.
const VERSION: u32 = 3;

/// Answers are sent at the latest when so many bytes of them wait.
const SEND_AT: usize = 1024 * 1024;

/// How much is read at once: several requests of a client that pipelines.
const READ_SIZE: usize = 2 * (MAX_PACKET + 4);

/// The state of a session.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) handles: Handles,
    pub(super) names: Names,
    /// Directories whose `.` and `..` have not been listed.
    undotted: HashSet<[u8; 8]>,
    greeted: bool,
}

impl Server {
    /// Serves until the input ends.
    pub(super) fn run(mut self, mut input: impl Read, mut output: impl Write) -> io::Result<()> {
        let mut buffer = vec![0; READ_SIZE];
        let mut filled = 0;
        let mut replies = Output::default();
        loop {
            let pending = buffer.get(..filled).unwrap_or_default();
            let used = self.answer_all(pending, &mut replies, &mut output)?;
            buffer.copy_within(used..filled, 0);
            filled -= used;
            output.write_all(&replies.bytes)?;
            output.flush()?;
            replies.bytes.clear();
            // What is left is less than one packet, and there is room for two.
            let read = read_some(&mut input, buffer.get_mut(filled..).unwrap_or_default())?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
        }
    }

    /// Answers every request that has arrived in full, and returns how many bytes they took.
    fn answer_all(
        &mut self,
        bytes: &[u8],
        replies: &mut Output,
        output: &mut impl Write,
    ) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length == 0 || length > MAX_PACKET {
                return Err(broken("a packet's length is out of bounds"));
            }
            let Some((packet, after)) = after.split_at_checked(length) else { break };
            self.answer(Fields(packet), replies)?;
            rest = after;
            if replies.bytes.len() >= SEND_AT {
                output.write_all(&replies.bytes)?;
                replies.bytes.clear();
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn answer(&mut self, mut fields: Fields<'_>, output: &mut Output) -> io::Result<()> {
        let kind = fields.u8().map_err(|_| broken("an empty packet"))?;
        if !self.greeted {
            if kind != request::INIT {
                return Err(broken("a request before the greeting"));
            }
            self.greeted = true;
            greet(output);
            return Ok(());
        }
        let id = fields.u32().map_err(|_| broken("a request without a number"))?;
        if let Err(status) = self.answer_request(kind, id, fields, output) {
            output.status(id, status);
        }
        Ok(())
    }

    fn answer_request(
        &mut self,
        kind: u8,
        id: u32,
        mut fields: Fields<'_>,
        output: &mut Output,
    ) -> Result<(), Status> {
        match kind {
            request::READ => {
                let (file, _) = self.handles.file(fields.bytes()?)?;
                let (offset, length) = (fields.u64()?, fields.u32()?);
                return output.packet(reply::DATA, |out| {
                    put_u32(out, id);
                    files::read(file, offset, length, out)
                });
            }
            request::WRITE => {
                let (file, append) = self.handles.file(fields.bytes()?)?;
                files::write(file, append, fields.u64()?, fields.bytes()?)?;
            }
            request::OPEN | request::OPENDIR => return self.open(kind, id, fields, output),
            request::CLOSE => {
                let handle = fields.bytes()?;
                self.handles.remove(handle)?;
                self.undotted.retain(|known| known != handle);
            }
            request::STAT => {
                return put_attributes(id, output, &fs::metadata(fields.path()?)?);
            }
            request::LSTAT => {
                return put_attributes(id, output, &fs::symlink_metadata(fields.path()?)?);
            }
            request::FSTAT => {
                let metadata = match self.handles.get(fields.bytes()?)? {
                    Open::File { file, .. } => file.metadata()?,
                    Open::Directory { path, .. } => fs::metadata(path)?,
                };
                return put_attributes(id, output, &metadata);
            }
            request::SETSTAT => {
                let path = fields.path()?;
                paths::set(&path, Attributes::decode(&mut fields)?)?;
            }
            request::FSETSTAT => {
                let open = self.handles.get(fields.bytes()?)?;
                paths::set_open(open, Attributes::decode(&mut fields)?)?;
            }
            request::READDIR => return self.read_directory(id, fields, output),
            request::REMOVE => fs::remove_file(fields.path()?)?,
            request::MKDIR => {
                let path = fields.path()?;
                paths::make_directory(&path, Attributes::decode(&mut fields)?)?;
            }
            request::RMDIR => fs::remove_dir(fields.path()?)?,
            request::RENAME => paths::rename(&fields.path()?, &fields.path()?)?,
            // OpenSSH has the two the other way round than the draft, and everybody follows it.
            request::SYMLINK => std::os::unix::fs::symlink(fields.path()?, fields.path()?)?,
            request::REALPATH => {
                let path = paths::real(&fields.path()?)?;
                return put_name(id, output, &path);
            }
            request::READLINK => {
                let path = fs::read_link(fields.path()?)?;
                return put_name(id, output, &path);
            }
            request::EXTENDED => return extended::answer(self, id, fields, output),
            _ => return Err(Status::Unsupported),
        }
        output.status(id, Status::Ok);
        Ok(())
    }

    fn open(
        &mut self,
        kind: u8,
        id: u32,
        mut fields: Fields<'_>,
        output: &mut Output,
    ) -> Result<(), Status> {
        if self.handles.is_full() {
            return Err(Status::Failure);
        }
        let path = fields.path()?;
        let handle = if kind == request::OPENDIR {
            let entries = fs::read_dir(&path)?;
            let handle = self.handles.insert(Open::Directory { path, entries });
            self.undotted.insert(handle);
            handle
        } else {
            let flags = fields.u32()?;
            let (file, append) = files::open(&path, flags, Attributes::decode(&mut fields)?)?;
            self.handles.insert(Open::File { file, append })
        };
        output.packet(reply::HANDLE, |out| {
            put_u32(out, id);
            put_bytes(out, &handle);
            Ok(())
        })
    }

    fn read_directory(
        &mut self,
        id: u32,
        mut fields: Fields<'_>,
        output: &mut Output,
    ) -> Result<(), Status> {
        let handle = fields.bytes()?;
        let (path, entries) = self.handles.directory(handle)?;
        let with_dots = <[u8; 8]>::try_from(handle).is_ok_and(|key| self.undotted.remove(&key));
        let names = &mut self.names;
        output.packet(reply::NAME, |out| {
            put_u32(out, id);
            listing::next_entries(path, entries, names, with_dots, out)
        })
    }
}

/// Writes the answer to a request for one path, without attributes, as the draft has it.
pub(super) fn put_one_name(out: &mut Vec<u8>, id: u32, path: &Path) {
    put_u32(out, id);
    put_u32(out, 1);
    put_bytes(out, path.as_os_str().as_bytes());
    put_bytes(out, path.as_os_str().as_bytes());
    put_u32(out, 0);
}

fn put_name(id: u32, output: &mut Output, path: &Path) -> Result<(), Status> {
    output.packet(reply::NAME, |out| {
        put_one_name(out, id, path);
        Ok(())
    })
}

fn put_attributes(id: u32, output: &mut Output, metadata: &fs::Metadata) -> Result<(), Status> {
    output.packet(reply::ATTRS, |out| {
        put_u32(out, id);
        attributes::encode(out, metadata);
        Ok(())
    })
}

fn greet(output: &mut Output) {
    // The body can't fail.
    let _ = output.packet(reply::VERSION, |out| {
        put_u32(out, VERSION);
        for (name, version) in extended::OFFERED {
            put_bytes(out, name.as_bytes());
            put_bytes(out, version.as_bytes());
        }
        Ok(())
    });
}

/// Reads what there is, at least something; nothing at the end of the input.
fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
