//! The SQLite engine: one file, one writer, many readers.
//!
//! Writes go through a queue to one thread, which takes what has gathered there into one transaction, commits it to
//! disk, and only then answers each of them. Reads run beside it on connections of their own and see what was
//! committed when they began.

mod errors;
mod events;
mod files;
mod options;
mod read;
mod readers;
mod schema;
mod store;
mod watch;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{Mutex, mpsc, oneshot};

pub use self::options::SqliteOptions;
use self::readers::Readers;
use self::writer::{Job, Work, Writer};
use crate::apply::Outcome;
use crate::hub::Hub;
use crate::{Clock, Error};

/// The SQLite engine, for one process that keeps its state in a file.
///
/// Beside the file lies `FILE.lock`, held while the store is open: a second process gets [`Error::Busy`]. Directory
/// and files are made for their owner alone, and refused where they are open to all. Call
/// [`close`](crate::Backend::close) before opening the same file again in this process.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    hub: Arc<Hub>,
    readers: Arc<Readers>,
    jobs: RwLock<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Another process may have the file; nothing is written here.
    reading: bool,
    /// How long events are kept.
    event_days: Option<u64>,
}

impl Sqlite {
    /// Opens the file, or makes it with its directory where there is none.
    ///
    /// A file that was not closed well is checked as a whole, and so is one of up to 64 MiB.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Corrupt`], [`Error::NewerSchema`], [`Error::Foreign`], [`Error::Unwritable`],
    /// [`Error::Exposed`], [`Error::DiskFull`], each with the file that it is about.
    pub async fn open(options: SqliteOptions) -> Result<Self, Error> {
        tokio::task::spawn_blocking(move || Self::open_here(options))
            .await
            .map_err(|error| Error::unavailable(format!("opening was cut short: {error}")))?
    }

    /// [`Sqlite::open`], on the calling thread.
    fn open_here(options: SqliteOptions) -> Result<Self, Error> {
        let SqliteOptions { path, clock, .. } = options.clone();
        let lock = files::prepare(&path)?;
        let connection = schema::open(&path, options.checkpoint_pages)?;
        let hub = Hub::new(options.watch_buffer);
        let readers = Readers::new(path.clone(), options.readers);
        let (jobs, queue) = mpsc::channel(options.group.max(1).saturating_mul(4));
        let writer = Writer::new(&options, connection, hub.clone(), lock)?;
        let thread = std::thread::Builder::new()
            .name("access-sqlite".into())
            .spawn(move || writer.run(queue))
            .map_err(|error| Error::unavailable(format!("no thread for the writer: {error}")))?;
        Ok(Self {
            path,
            clock,
            hub,
            readers,
            jobs: RwLock::new(Some(jobs)),
            writer: Mutex::new(Some(thread)),
            reading: false,
            event_days: options.event_ttl.map(|ttl| ttl.as_secs() / 86_400),
        })
    }

    /// Opens the file to read what is in it, also while another process has it open. Nothing is made, checked as a
    /// whole or brought to a newer version; writes and watches are refused.
    ///
    /// # Errors
    /// As [`Sqlite::open`], and [`Error::Unavailable`] where the file is of an older version, or not there.
    pub async fn open_to_read(options: SqliteOptions) -> Result<Self, Error> {
        let SqliteOptions { path, clock, .. } = options.clone();
        let readers = Readers::new(path.clone(), options.readers);
        let checked = path.clone();
        readers
            .run(readers::Purpose::Read, move |connection| {
                schema::check_current(connection, &checked)
            })
            .await?;
        Ok(Self {
            path,
            clock,
            hub: Hub::new(1),
            readers,
            jobs: RwLock::new(None),
            writer: Mutex::new(None),
            reading: true,
            event_days: None,
        })
    }

    fn check_writable(&self) -> Result<(), Error> {
        match self.reading {
            true => Err(Error::invalid("use", "the store was opened to be read")),
            false => Ok(()),
        }
    }

    /// The database file.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    fn jobs(&self) -> Result<mpsc::Sender<Job>, Error> {
        self.check_writable()?;
        self.jobs.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Closed)
    }

    /// Has the writer do `work`; it is on disk when this returns.
    async fn write(&self, work: Work) -> Result<Outcome, Error> {
        let (reply, answer) = oneshot::channel();
        let stopped = |_| Error::unavailable("the writer has stopped; the log says why");
        let jobs = self.jobs()?;
        jobs.send(Job { work, reply }).await.map_err(|_| stopped(()))?;
        drop(jobs);
        answer.await.map_err(|_| stopped(()))?
    }

    async fn shut(&self) -> Result<(), Error> {
        let mut writer = self.writer.lock().await;
        let jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner).take();
        self.hub.close();
        // Before the writer, so that its connection is the last: that one folds the log into the file.
        self.readers.close().await;
        drop(jobs);
        let Some(thread) = writer.take() else { return Ok(()) };
        tokio::task::spawn_blocking(move || thread.join())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| Error::unavailable("the writer ended badly; the log says why"))
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.hub.close();
    }
}
