//! What is wrong with a file is said, with its name, before anything is written.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use access_backend::{
    Backend, Batch, Error, Key, KeyRange, NewItem, Operation, Sqlite, SqliteOptions, Value,
    read_all,
};
use tempfile::TempDir;

/// A directory for its owner alone, as a store wants it.
fn private_dir() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn item(number: usize, size: usize) -> NewItem {
    let key = Key::from_segments(["k", &format!("{number:06}")]).unwrap();
    NewItem::new(key, Value::new(vec![b'v'; size]).unwrap())
}

async fn open(path: &Path) -> Result<Sqlite, Error> {
    Sqlite::open(SqliteOptions::new(path)).await
}

/// A closed store with some pages in it.
async fn made(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("state.db");
    let store = open(&path).await.unwrap();
    for number in 0..50 {
        store.put(item(number, 2000)).await.unwrap();
    }
    store.close().await.unwrap();
    path
}

fn says(error: &Error, path: &Path, words: &str) {
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text} does not name {}", path.display());
    assert!(text.contains(words), "{text} does not say {words}");
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
}

/// Holds the store open until its input ends: this same test program, with the path in its environment.
#[tokio::test]
async fn holder_process() {
    let Some(path) = std::env::var_os("ACCESS_BACKEND_HOLD").map(PathBuf::from) else { return };
    let store = open(&path).await.unwrap();
    println!("\nholding");
    std::io::stdin().lines().for_each(drop);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_file_held_by_another_process_is_busy() {
    let dir = private_dir();
    let path = dir.path().join("state.db");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder_process", "--nocapture"])
        .env("ACCESS_BACKEND_HOLD", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "holding"));
    let error = open(&path).await.unwrap_err();
    assert_eq!(error, Error::Busy { path: path.clone() });
    says(&error, &path, "in use by another process");
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    open(&path).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_another_tool_writes_is_busy() {
    let dir = private_dir();
    let path = made(&dir).await;
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(open(&path).await.unwrap_err(), Error::Busy { path: path.clone() });
    other.execute_batch("ROLLBACK").unwrap();
    let store = open(&path).await.unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(store.put(item(0, 1)).await.unwrap_err(), Error::Busy { path: path.clone() });
    assert!(store.get(&item(0, 1).key).await.unwrap().is_some(), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    store.put(item(0, 1)).await.unwrap();
}

#[tokio::test]
async fn a_truncated_file_is_corrupt() {
    let dir = private_dir();
    let path = made(&dir).await;
    let whole = fs::metadata(&path).unwrap().len();
    for len in [whole - 1, whole / 2, 4096, 100, 99, 1, 0] {
        OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
        let error = open(&path).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{len}: {error}");
        says(&error, &path, "cut off");
        says(&error, &path, "restore the last backup");
        assert_eq!(fs::metadata(&path).unwrap().len(), len, "left as it was found");
    }
}

#[tokio::test]
async fn damage_is_found_on_opening() {
    let dir = private_dir();
    let path = made(&dir).await;
    let good = fs::read(&path).unwrap();
    let mut noise = good.clone();
    noise[..16].copy_from_slice(b"not a database!!");
    let mut pages = good.clone();
    for page in 2..good.len() / 4096 {
        pages[page * 4096..page * 4096 + 64].fill(0xff);
    }
    for bad in [noise, pages, b"hello".repeat(1000)] {
        fs::write(&path, bad).unwrap();
        let error = open(&path).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        says(&error, &path, "damaged");
    }
    // A file that lost its end while its log holds some of it.
    fs::write(&path, &good[..8192]).unwrap();
    fs::write(dir.path().join("state.db-wal"), [0; 64]).unwrap();
    let error = open(&path).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), good[..8192], "left as it was found");
    for left in ["state.db-wal", "state.db-shm"] {
        let _absent = fs::remove_file(dir.path().join(left));
    }
    fs::write(&path, good).unwrap();
    open(&path).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_log_without_its_file_is_not_begun_anew() {
    let dir = private_dir();
    let path = made(&dir).await;
    fs::remove_file(&path).unwrap();
    fs::write(dir.path().join("state.db-wal"), "frames").unwrap();
    let error = open(&path).await.unwrap_err();
    says(&error, &path, "write-ahead log is still there");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = private_dir();
    let path = made(&dir).await;
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute("UPDATE backend_version SET version = 99", ()).unwrap();
    file.close().unwrap();
    let error = open(&path).await.unwrap_err();
    assert_eq!(error, Error::NewerSchema { path: path.clone(), found: 99, supported: 2 });
    says(&error, &path, "newer release");
}

#[tokio::test]
async fn a_strangers_database_is_refused() {
    let dir = private_dir();
    let path = dir.path().join("other.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute("CREATE TABLE kv(key, value)", ()).unwrap();
    file.close().unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let error = open(&path).await.unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    says(&error, &path, "another program");
}

#[tokio::test]
async fn what_is_made_is_private_and_what_is_open_to_all_is_refused() {
    let dir = private_dir();
    let path = dir.path().join("a/b/state.db");
    let store = open(&path).await.unwrap();
    store.put(item(1, 1)).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let mut files = Vec::new();
    for file in fs::read_dir(path.parent().unwrap()).unwrap() {
        let file = file.unwrap();
        assert_eq!(mode(&file.path()), 0o600, "{:?}", file.file_name());
        files.push(file.file_name().into_string().unwrap());
    }
    files.sort();
    assert_eq!(files, ["state.db", "state.db-shm", "state.db-wal", "state.db.lock"]);
    store.close().await.unwrap();

    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let error = open(&path).await.unwrap_err();
    assert_eq!(error, Error::Exposed { path: path.clone(), mode: 0o644 });
    says(&error, &path, "chmod o-rwx");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let parent = path.parent().unwrap();
    fs::set_permissions(parent, Permissions::from_mode(0o755)).unwrap();
    let error = open(&path).await.unwrap_err();
    says(&error, parent, "0755");
    fs::set_permissions(parent, Permissions::from_mode(0o750)).unwrap();
    open(&path).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_path_that_cannot_be_is_unwritable() {
    let dir = private_dir();
    let file = dir.path().join("file");
    File::create(&file).unwrap();
    let error = open(&file.join("state.db")).await.unwrap_err();
    assert!(matches!(error, Error::Unwritable { .. }), "{error}");
    says(&error, &file, "cannot write");
    let error = open(dir.path().join("sub/..").as_path()).await.unwrap_err();
    assert!(matches!(error, Error::Unwritable { .. }), "{error}");
}

/// A file system of its own, of which the size can be chosen. Mounting takes root.
struct Mounted(TempDir);

impl Mounted {
    fn new(options: &str) -> Self {
        let dir = private_dir();
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"], dir.path());
        Self(dir)
    }

    fn set(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}")], self.0.path());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a test that failed may still hold files in it.
        let _status = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn mount(args: &[&str], at: &Path) {
    let status = Command::new("mount").args(args).arg(at).status().unwrap();
    assert!(
        status.success(),
        "mounting a tmpfs, which this test does to have a disk to fill, takes root"
    );
}

#[tokio::test]
async fn a_full_disk_is_said_and_got_over() {
    let disk = Mounted::new("size=1m,mode=700");
    let path = disk.0.path().join("state.db");
    let store = open(&path).await.unwrap();
    let mut written = 0;
    let error = loop {
        match store.put(item(written, 8000)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "a disk of a mebibyte took {written} rows");
    };
    assert_eq!(error, Error::DiskFull { path: path.clone() });
    says(&error, &path, "no space left");
    assert!(written > 10);
    // What was acknowledged is there, the rest is not, and reading works.
    let count = async |store: &Sqlite| read_all(store, &KeyRange::all(), 1000).await.unwrap().len();
    assert_eq!(count(&store).await, written);
    store.health().await.unwrap();
    let large = item(999, 900_000);
    assert_eq!(store.put(large.clone()).await.unwrap_err(), Error::DiskFull { path: path.clone() });
    disk.set("size=8m");
    store.put(large).await.unwrap();
    assert_eq!(count(&store).await, written + 1);
    // Of writes that come together, what fits is not pulled down by what does not.
    let mut heavy = Batch::new();
    for number in 0..7 {
        heavy = heavy.then(Operation::Put(item(1000 + number, 1024 * 1024)));
    }
    let (heavy, small) = tokio::join!(store.batch(heavy), store.put(item(0, 10)));
    assert_eq!(heavy.unwrap_err(), Error::DiskFull { path: path.clone() });
    small.unwrap();
    assert_eq!(count(&store).await, written + 1);
    store.close().await.unwrap();
    assert_eq!(count(&open(&path).await.unwrap()).await, written + 1);
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_start_is_said() {
    let disk = Mounted::new("size=64k,mode=700");
    let path = disk.0.path().join("state.db");
    let mut filler = File::create(disk.0.path().join("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    let error = open(&path).await.unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    says(&error, &path, "no space left");
    assert!(!path.exists(), "nothing half made under its name");
    filler.set_len(0).unwrap();
    disk.set("size=1m");
    open(&path).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_read_only_file_system_is_said() {
    let disk = Mounted::new("size=1m,mode=700");
    let path = disk.0.path().join("state.db");
    open(&path).await.unwrap().close().await.unwrap();
    disk.set("ro");
    let error = open(&path).await.unwrap_err();
    assert!(matches!(error, Error::Unwritable { .. }), "{error}");
    says(&error, disk.0.path(), "read-write");
}
