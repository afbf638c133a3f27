//! Operations on paths.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{UtimensatFlags, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid};

use super::attributes::Attributes;
use super::handles::Open;
use super::wire::Status;

/// The absolute path without links. The last part need not exist, so that clients can ask where a
/// file is going to be.
pub(super) fn real(path: &Path) -> Result<PathBuf, Status> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(Status::NoSuchFile)?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            Ok(fs::canonicalize(parent.unwrap_or(Path::new(".")))?.join(name))
        }
        Err(err) => Err(err.into()),
    }
}

pub(super) fn make_directory(path: &Path, attributes: Attributes) -> Result<(), Status> {
    let mode = attributes.mode.unwrap_or(0o777) & 0o777;
    Ok(fs::DirBuilder::new().mode(mode).create(path)?)
}

/// Renames without replacing anything, as version 3 demands.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), Status> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        // A file system that cannot promise it: a link is never made over something either.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            if fs::symlink_metadata(from)?.is_dir() {
                if fs::symlink_metadata(to).is_ok() {
                    return Err(Status::Failure);
                }
                return Ok(fs::rename(from, to)?);
            }
            fs::hard_link(from, to)?;
            Ok(fs::remove_file(from)?)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Sets what the client asks for on what a path leads to.
pub(super) fn set(path: &Path, attributes: Attributes) -> Result<(), Status> {
    if let Some(size) = attributes.size {
        fs::OpenOptions::new().write(true).open(path)?.set_len(size)?;
    }
    if let Some((uid, gid)) = attributes.owner {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    }
    if let Some(mode) = attributes.mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    if let Some(times) = attributes.times {
        let (accessed, modified) = specs(times);
        utimensat(AT_FDCWD, path, &accessed, &modified, UtimensatFlags::FollowSymlink)?;
    }
    Ok(())
}

/// Sets what the client asks for on a link itself. Size and mode a link does not have.
pub(super) fn set_link(path: &Path, attributes: Attributes) -> Result<(), Status> {
    if attributes.size.is_some() {
        return Err(Status::BadMessage);
    }
    if let Some((uid, gid)) = attributes.owner {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    }
    if let Some(mode) = attributes.mode
        && !fs::symlink_metadata(path)?.is_symlink()
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    if let Some(times) = attributes.times {
        let (accessed, modified) = specs(times);
        utimensat(AT_FDCWD, path, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?;
    }
    Ok(())
}

/// Sets what the client asks for on something open.
pub(super) fn set_open(open: &Open, attributes: Attributes) -> Result<(), Status> {
    let file = match open {
        Open::File { file, .. } => file,
        Open::Directory { path, .. } => return set(path, attributes),
    };
    if let Some(size) = attributes.size {
        file.set_len(size)?;
    }
    if let Some((uid, gid)) = attributes.owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        nix::unistd::fchown(file, Some(uid), Some(gid))?;
    }
    if let Some(mode) = attributes.mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    if let Some(times) = attributes.times {
        let (accessed, modified) = specs(times);
        futimens(file.as_fd(), &accessed, &modified)?;
    }
    Ok(())
}

fn specs((accessed, modified): (u32, u32)) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(accessed.into(), 0), TimeSpec::new(modified.into(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renaming_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "a").unwrap();
        fs::write(at("b"), "b").unwrap();
        assert_eq!(rename(&at("a"), &at("b")), Err(Status::Failure));
        assert_eq!(fs::read(at("b")).unwrap(), b"b");
        rename(&at("a"), &at("c")).unwrap();
        assert_eq!(fs::read(at("c")).unwrap(), b"a");
        assert_eq!(rename(&at("a"), &at("d")), Err(Status::NoSuchFile));
    }

    #[test]
    fn the_last_part_of_a_path_need_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        std::os::unix::fs::symlink(&root, root.join("link")).unwrap();
        assert_eq!(real(&root.join("link/new")).unwrap(), root.join("new"));
        assert_eq!(real(&root.join("./link")).unwrap(), root);
        assert_eq!(real(&root.join("no/new")), Err(Status::NoSuchFile));
        assert_eq!(real(&root.join("no/..")), Err(Status::NoSuchFile));
    }
}
