//! Files that are read with a bound, and written for their owner alone, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use access_daemon::Exit;

/// The largest text that is read, in bytes: what one message to the service may hold.
pub(crate) const MAX_TEXT: u64 = 4 * 1024 * 1024;

/// Reads a text file that may not be there.
pub(crate) fn read_optional(path: &Path) -> Result<Option<String>, Exit> {
    match File::open(path) {
        Ok(file) => read_text(file, &path.display().to_string()).map(Some),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Exit::failed(format!("cannot read {}: {err}", path.display()))),
    }
}

/// Reads a text to its end.
pub(crate) fn read_text(from: impl Read, what: &str) -> Result<String, Exit> {
    let error = |err: io::Error| Exit::failed(format!("cannot read {what}: {err}"));
    let mut text = String::new();
    from.take(MAX_TEXT + 1).read_to_string(&mut text).map_err(error)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_TEXT {
        return Err(error(io::Error::other("it is larger than 4 MiB")));
    }
    Ok(text)
}

/// Fails when one of the paths is taken and may not be replaced.
pub(crate) fn check_free<'a>(
    paths: impl IntoIterator<Item = &'a PathBuf>,
    overwrite: bool,
) -> Result<(), Exit> {
    let taken = paths.into_iter().find(|path| fs::symlink_metadata(path).is_ok());
    match taken {
        Some(path) if !overwrite => Err(Exit::failed(format!(
            "{} is there already: choose another name, or add --overwrite",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// A file that takes its name only when it is whole.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    path: PathBuf,
    temporary: PathBuf,
    done: bool,
}

impl NewFile {
    /// Begins a file, mode 0600.
    pub(crate) fn create(path: &Path) -> Result<Self, Exit> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.part", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|err| cannot_write(path, &err))?;
        Ok(Self { file, path: path.to_owned(), temporary, done: false })
    }

    /// Appends.
    pub(crate) fn write(&mut self, content: &[u8]) -> Result<(), Exit> {
        self.file.write_all(content).map_err(|err| cannot_write(&self.path, &err))
    }

    /// Gives it its name; what had the name is replaced.
    pub(crate) fn finish(mut self) -> Result<(), Exit> {
        let done = self.file.sync_all().and_then(|()| fs::rename(&self.temporary, &self.path));
        done.map_err(|err| cannot_write(&self.path, &err))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed is half a file under a name of its own: nobody takes it for
            // the whole.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes several files: all are written before the first gets its name.
pub(crate) fn write_all(files: &[(PathBuf, &[u8])]) -> Result<(), Exit> {
    let mut written = Vec::with_capacity(files.len());
    for (path, content) in files {
        let mut file = NewFile::create(path)?;
        file.write(content)?;
        written.push(file);
    }
    written.into_iter().try_for_each(NewFile::finish)
}

fn cannot_write(path: &Path, err: &io::Error) -> Exit {
    Exit::failed(format!("cannot write {}: {err}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_private_and_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        write_all(&[(a.clone(), b"1"), (b.clone(), b"2")]).unwrap();
        assert_eq!(fs::metadata(&a).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&b).unwrap(), b"2");
        let missing = dir.path().join("no/such");
        let (c, bad) = (dir.path().join("c"), missing.clone());
        write_all(&[(c.clone(), b"1"), (bad, b"2")]).unwrap_err();
        assert!(!c.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no leftovers");
    }

    #[test]
    fn what_is_there_is_not_replaced_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        check_free([&path], false).unwrap();
        fs::write(&path, "old").unwrap();
        let err = check_free([&path], false).unwrap_err().to_string();
        assert!(err.contains("--overwrite"), "{err}");
        check_free([&path], true).unwrap();
    }

    #[test]
    fn texts_have_a_bound() {
        let err = read_text(io::repeat(b'a'), "endless").unwrap_err().to_string();
        assert!(err.contains("4 MiB"), "{err}");
    }
}
