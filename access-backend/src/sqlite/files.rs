//! The files beside the database: who may see them, who holds them, and whether they can be what they should.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{errors, schema};
use crate::Error;

const HEADER_BYTES: usize = 100;
/// How long to wait for a process that is just ending, or that was forked off one and has yet to let go of its files.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_POLL: Duration = Duration::from_millis(5);

const MAGIC: &[u8] = b"SQLite format 3\0";

/// Makes sure that this process alone has a sound-looking file at `path`, made if need be. The lock holds until the
/// file that is returned is dropped.
pub(super) fn prepare(path: &Path) -> Result<File, Error> {
    prepare_directory(directory(path))?;
    let lock = lock(path)?;
    match fs::metadata(path) {
        Ok(_) => check(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(errors::file(path)(error)),
    }
    Ok(lock)
}

/// The file of this name with `suffix` after it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The length of the write-ahead log; what is in it was not folded into the file by a proper end.
pub(super) fn log_len(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len())
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn prepare_directory(dir: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(errors::file(dir))?;
    check_mode(dir)
}

fn check_mode(path: &Path) -> Result<(), Error> {
    let mode = fs::metadata(path).map_err(errors::file(path))?.mode() & 0o7777;
    if mode & 0o007 != 0 { Err(Error::Exposed { path: path.to_owned(), mode }) } else { Ok(()) }
}

fn lock(path: &Path) -> Result<File, Error> {
    let name = beside(path, ".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&name)
        .map_err(errors::file(&name))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(errors::file(&name)(error)),
        }
    }
}

/// Makes the database under another name first: under its own it is whole from its first moment on, so that an empty
/// file of that name can only be one that lost its content.
fn create(path: &Path) -> Result<(), Error> {
    if log_len(path) > 0 {
        let detail =
            "it is gone, and its write-ahead log is still there: move that away to begin anew";
        return Err(Error::corrupt(path, detail));
    }
    let draft = beside(path, ".new");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        remove(&beside(&draft, suffix))?;
    }
    // SQLite gives its other files the mode of this one.
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&draft)
        .map_err(errors::file(&draft))?;
    let made = schema::create(&draft).and_then(|()| {
        File::open(&draft).and_then(|file| file.sync_all()).map_err(errors::file(&draft))?;
        fs::rename(&draft, path).map_err(errors::file(path))?;
        let dir = directory(path);
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(errors::file(dir))
    });
    // A full disk is named by the file that the user knows.
    made.map_err(|error| match error {
        Error::DiskFull { .. } => Error::DiskFull { path: path.to_owned() },
        other => other,
    })
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(errors::file(path)(error)),
        _ => Ok(()),
    }
}

fn check(path: &Path) -> Result<(), Error> {
    let mut file =
        OpenOptions::new().read(true).write(true).open(path).map_err(errors::file(path))?;
    check_mode(path)?;
    let len = file.metadata().map_err(errors::file(path))?.len();
    let mut header = [0; HEADER_BYTES];
    if file.read_exact(&mut header).is_err() {
        return Err(Error::corrupt(path, format!("it was cut off after {len} bytes")));
    }
    if !header.starts_with(MAGIC) {
        return Err(Error::corrupt(path, "it does not begin as a database does"));
    }
    let whole = whole_len(&header);
    // With a log to replay, the end of the file may be in there.
    if log_len(path) == 0 && len < whole {
        return Err(Error::corrupt(path, format!("it was cut off after {len} of {whole} bytes")));
    }
    Ok(())
}

/// The length that the header speaks of: <https://www.sqlite.org/fileformat2.html#the_database_header>.
fn whole_len(header: &[u8; HEADER_BYTES]) -> u64 {
    let field = |at: usize, len: usize| {
        header.iter().skip(at).take(len).fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let page = match field(16, 2) {
        1 => 65_536,
        bytes => bytes,
    };
    page.saturating_mul(field(28, 4))
}
