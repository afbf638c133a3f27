//! Directory entries, and the line that `ls -l` would print for each.

use std::collections::HashMap;
use std::fs::{self, Metadata, ReadDir};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{Gid, Group, Uid, User};

use super::attributes;
use super::wire::{MAX_DATA, Status, put_bytes, put_u32};
use crate::sys;

/// The most entries of one reply.
const BATCH: usize = 128;

/// From this age on a line shows the year instead of the time of day, as `ls` does.
const HALF_A_YEAR: i64 = 182 * 86_400;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Names of users and groups, asked for once.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: HashMap<u32, Option<String>>,
    groups: HashMap<u32, Option<String>>,
}

impl Names {
    pub(super) fn user(&mut self, uid: u32) -> Option<&str> {
        let look_up = || Some(User::from_uid(Uid::from_raw(uid)).ok()??.name);
        self.users.entry(uid).or_insert_with(look_up).as_deref()
    }

    pub(super) fn group(&mut self, gid: u32) -> Option<&str> {
        let look_up = || Some(Group::from_gid(Gid::from_raw(gid)).ok()??.name);
        self.groups.entry(gid).or_insert_with(look_up).as_deref()
    }
}

/// Appends a count and the next entries of a directory.
///
/// # Errors
/// [`Status::Eof`] when there are no more.
pub(super) fn next_entries(
    directory: &Path,
    entries: &mut ReadDir,
    names: &mut Names,
    with_dots: bool,
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    let count_at = out.len();
    put_u32(out, 0);
    let mut count: u32 = 0;
    if with_dots {
        for name in [".", ".."] {
            count += u32::from(put_entry(name.as_ref(), &directory.join(name), names, out));
        }
    }
    for entry in entries.by_ref() {
        let entry = entry?;
        count += u32::from(put_entry(entry.file_name().as_bytes(), &entry.path(), names, out));
        // The longest entry takes less than what is left beyond this.
        if count as usize >= BATCH || out.len() - count_at > MAX_DATA / 2 {
            break;
        }
    }
    if count == 0 {
        return Err(Status::Eof);
    }
    if let Some(slot) = out.get_mut(count_at..count_at + 4) {
        slot.copy_from_slice(&count.to_be_bytes());
    }
    Ok(())
}

/// Appends one entry, unless it is gone since the directory was read.
fn put_entry(name: &[u8], path: &Path, names: &mut Names, out: &mut Vec<u8>) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    put_bytes(out, name);
    let mut line = long_line(&metadata, names).into_bytes();
    line.extend(name);
    put_bytes(out, &line);
    attributes::encode(out, &metadata);
    true
}

/// Everything of a line of `ls -l` that comes before the name.
fn long_line(metadata: &Metadata, names: &mut Names) -> String {
    let user = names.user(metadata.uid()).map_or_else(|| metadata.uid().to_string(), str::to_owned);
    let group =
        names.group(metadata.gid()).map_or_else(|| metadata.gid().to_string(), str::to_owned);
    format!(
        "{} {:>4} {:<8} {:<8} {:>8} {} ",
        mode_text(metadata),
        metadata.nlink(),
        user,
        group,
        metadata.size(),
        time_text(metadata.mtime()),
    )
}

fn time_text(modified: i64) -> String {
    let Some((year, month, day, hour, minute)) = sys::local_time(modified) else {
        return "?".repeat(12);
    };
    let month = MONTHS.get(month).copied().unwrap_or("???");
    #[allow(clippy::disallowed_methods, reason = "a process of its own that nobody gives a clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let age = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(modified);
    if (0..HALF_A_YEAR).contains(&age) {
        format!("{month} {day:>2} {hour:02}:{minute:02}")
    } else {
        format!("{month} {day:>2}  {year:>4}")
    }
}

fn mode_text(metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    let first = if kind.is_dir() {
        'd'
    } else if kind.is_symlink() {
        'l'
    } else if kind.is_block_device() {
        'b'
    } else if kind.is_char_device() {
        'c'
    } else if kind.is_fifo() {
        'p'
    } else if kind.is_socket() {
        's'
    } else {
        '-'
    };
    let mode = metadata.mode();
    let mut text = String::from(first);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn modes_look_like_those_of_ls() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, text) in [
            (0o755, "drwxr-xr-x"),
            (0o4711, "drws--x--x"),
            (0o1777, "drwxrwxrwt"),
            (0o2640, "drw-r-S---"),
        ] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(mode_text(&fs::metadata(dir.path()).unwrap()), text);
        }
    }
}
