//! What SQLite's errors mean to whoever runs the program.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::Error;

pub(super) fn sql(path: &Path) -> impl Fn(rusqlite::Error) -> Error + '_ {
    move |error| {
        let path_buf = || path.to_owned();
        let rusqlite::Error::SqliteFailure(failure, detail) = &error else {
            // A column of another type than the schema says.
            return Error::corrupt(path, error.to_string());
        };
        let detail = detail.clone().unwrap_or_else(|| failure.to_string()).to_lowercase();
        match (failure.code, failure.extended_code) {
            // The index of the log could not be made larger, which is how a full disk shows there.
            (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => {
                Error::DiskFull { path: path_buf() }
            }
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => {
                Error::Busy { path: path_buf() }
            }
            // Of a file that was cut off, a page is missing.
            (_, ffi::SQLITE_IOERR_SHORT_READ) => Error::corrupt(path, detail),
            (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => {
                Error::corrupt(path, detail)
            }
            (ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen, _) => {
                Error::Unwritable { path: path_buf(), detail }
            }
            (ErrorCode::TooBig, _) => Error::invalid("row", "sqlite refuses its size"),
            _ => Error::unavailable(format!("{}: {detail}", path.display())),
        }
    }
}

pub(super) fn file(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::DiskFull { path: path.to_owned() }
        }
        _ => Error::Unwritable { path: path.to_owned(), detail: error.to_string().to_lowercase() },
    }
}
