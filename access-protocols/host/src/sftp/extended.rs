//! Extensions of OpenSSH (its file `PROTOCOL`, section 4).

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, Statvfs, fstatvfs, statvfs};
use nix::unistd::User;

use super::attributes::Attributes;
use super::handles::{MAX_HANDLES, Open};
use super::server::Server;
use super::wire::{
    Fields, MAX_DATA, MAX_PACKET, Output, Status, put_bytes, put_u32, put_u64, reply,
};
use super::{files, paths};

/// What the server's version packet offers: names and versions.
pub(super) const OFFERED: [(&str, &str); 11] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
    ("users-groups-by-id@openssh.com", "1"),
];

/// Answers an extended request.
pub(super) fn answer(
    server: &mut Server,
    id: u32,
    mut fields: Fields<'_>,
    output: &mut Output,
) -> Result<(), Status> {
    match fields.bytes()? {
        b"posix-rename@openssh.com" => fs::rename(fields.path()?, fields.path()?)?,
        b"hardlink@openssh.com" => fs::hard_link(fields.path()?, fields.path()?)?,
        b"fsync@openssh.com" => server.handles.file(fields.bytes()?)?.0.sync_all()?,
        b"lsetstat@openssh.com" => {
            let path = fields.path()?;
            paths::set_link(&path, Attributes::decode(&mut fields)?)?;
        }
        b"copy-data" => copy_data(server, fields)?,
        b"statvfs@openssh.com" => {
            let found = statvfs(&fields.path()?)?;
            return reply_with(id, output, |out| put_statvfs(out, &found));
        }
        b"fstatvfs@openssh.com" => {
            let found = match server.handles.get(fields.bytes()?)? {
                Open::File { file, .. } => fstatvfs(file)?,
                Open::Directory { path, .. } => statvfs(path)?,
            };
            return reply_with(id, output, |out| put_statvfs(out, &found));
        }
        b"limits@openssh.com" => {
            return reply_with(id, output, |out| {
                for limit in [MAX_PACKET, MAX_DATA, MAX_DATA, MAX_HANDLES] {
                    put_u64(out, u64::try_from(limit).unwrap_or(u64::MAX));
                }
            });
        }
        b"expand-path@openssh.com" => {
            let path = paths::real(&expand(&fields.path()?)?)?;
            return output.packet(reply::NAME, |out| {
                super::server::put_one_name(out, id, &path);
                Ok(())
            });
        }
        b"home-directory" => {
            let path = home_of(fields.bytes()?)?;
            return output.packet(reply::NAME, |out| {
                super::server::put_one_name(out, id, &path);
                Ok(())
            });
        }
        b"users-groups-by-id@openssh.com" => return names_by_id(server, id, fields, output),
        _ => return Err(Status::Unsupported),
    }
    output.status(id, Status::Ok);
    Ok(())
}

fn reply_with(id: u32, output: &mut Output, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), Status> {
    output.packet(reply::EXTENDED_REPLY, |out| {
        put_u32(out, id);
        fill(out);
        Ok(())
    })
}

fn put_statvfs(out: &mut Vec<u8>, found: &Statvfs) {
    const READ_ONLY: u64 = 1;
    const NO_SETUID: u64 = 2;
    let flags = found.flags();
    let mut told = 0;
    if flags.contains(FsFlags::ST_RDONLY) {
        told |= READ_ONLY;
    }
    if flags.contains(FsFlags::ST_NOSUID) {
        told |= NO_SETUID;
    }
    // The widths of these differ between systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "see above")]
    let numbers = [
        found.block_size() as u64,
        found.fragment_size() as u64,
        found.blocks() as u64,
        found.blocks_free() as u64,
        found.blocks_available() as u64,
        found.files() as u64,
        found.files_free() as u64,
        found.files_available() as u64,
        found.filesystem_id() as u64,
        told,
        found.name_max() as u64,
    ];
    numbers.into_iter().for_each(|number| put_u64(out, number));
}

/// A path in which a `~` or `~user` at the front stands for a home directory.
fn expand(path: &Path) -> Result<PathBuf, Status> {
    let bytes = path.as_os_str().as_bytes();
    let Some(rest) = bytes.strip_prefix(b"~") else { return Ok(path.to_owned()) };
    let mut parts = rest.splitn(2, |byte| *byte == b'/');
    let home = home_of(parts.next().unwrap_or_default())?;
    let tail = parts.next().unwrap_or_default();
    Ok(home.join(Path::new(std::ffi::OsStr::from_bytes(tail))))
}

/// The home directory of a user; one's own for no name.
fn home_of(name: &[u8]) -> Result<PathBuf, Status> {
    let user = if name.is_empty() {
        if let Some(home) = std::env::var_os("HOME") {
            return Ok(home.into());
        }
        User::from_uid(nix::unistd::geteuid())?
    } else {
        let name = std::str::from_utf8(name).map_err(|_| Status::NoSuchFile)?;
        User::from_name(name)?
    };
    Ok(user.ok_or(Status::NoSuchFile)?.dir)
}

fn copy_data(server: &Server, mut fields: Fields<'_>) -> Result<(), Status> {
    let from = fields.bytes()?;
    let (from_offset, length) = (fields.u64()?, fields.u64()?);
    let to = fields.bytes()?;
    let to_offset = fields.u64()?;
    if from == to {
        // Copying a file into itself without end, or over what is still to be read.
        return Err(Status::BadMessage);
    }
    let (source, _) = server.handles.file(from)?;
    files::copy(source, from_offset, length, server.handles.file(to)?, to_offset)
}

/// Names for lists of numbers; what has none gets an empty one.
fn names_by_id(
    server: &mut Server,
    id: u32,
    mut fields: Fields<'_>,
    output: &mut Output,
) -> Result<(), Status> {
    let (mut uids, mut gids) = (Fields(fields.bytes()?), Fields(fields.bytes()?));
    let names = &mut server.names;
    output.packet(reply::EXTENDED_REPLY, |out| {
        put_u32(out, id);
        let mut list = Vec::new();
        while !uids.0.is_empty() {
            put_bytes(&mut list, names.user(uids.u32()?).unwrap_or_default().as_bytes());
        }
        put_bytes(out, &list);
        list.clear();
        while !gids.0.is_empty() {
            put_bytes(&mut list, names.group(gids.u32()?).unwrap_or_default().as_bytes());
        }
        put_bytes(out, &list);
        Ok(())
    })
}
