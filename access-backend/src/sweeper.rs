//! A thread that deletes expired rows now and then.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Rows deleted in one transaction; a sweep runs several while there are more.
pub(crate) const SWEEP_ROWS: usize = 256;

/// Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Sweeper {
    _stop: Sender<()>,
}

impl Sweeper {
    /// Calls `sweep` each `every`, until it answers `false`.
    pub(crate) fn start(
        every: Duration,
        mut sweep: impl FnMut() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        thread::Builder::new().name("access-sweep".into()).spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                if !sweep() {
                    return;
                }
            }
        })?;
        Ok(Self { _stop: stop })
    }
}
