//! `access` and `accessctl` are this program, called by another name.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use access_daemon::Exit;

/// The name that the program was called by.
pub(crate) fn called_as() -> Option<String> {
    let program = std::env::args_os().next()?;
    Path::new(&program).file_name().and_then(OsStr::to_str).map(str::to_owned)
}

/// Lays the tools into `bin` in the data directory, and gives that folder.
pub(crate) fn lay_out(data_dir: &Path) -> Result<PathBuf, Exit> {
    let error = |path: &Path, err: std::io::Error| {
        Exit::failed(format!("cannot lay out {}: {err}", path.display()))
    };
    let bin = data_dir.join("bin");
    std::fs::create_dir_all(&bin).map_err(|err| error(&bin, err))?;
    let program = std::env::current_exe().map_err(|err| error(&bin, err))?;
    for name in ["access", "accessctl"] {
        let path = bin.join(name);
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                return Err(error(&path, err));
            }
            _ => {}
        }
        std::os::unix::fs::symlink(&program, &path).map_err(|err| error(&path, err))?;
    }
    Ok(bin)
}
