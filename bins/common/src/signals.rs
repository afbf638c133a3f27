//! Signals of the system and to its service manager.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a daemon obeys.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To drain and exit (`SIGTERM`, Ctrl-C).
    Stop,
    /// To reload what can be reloaded (`SIGHUP`).
    Reload,
}

impl Signals {
    /// Begins to listen; from here on the signals no longer end the process.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a wish.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.term.recv() => Wish::Stop,
            _ = self.int.recv() => Wish::Stop,
            _ = self.hup.recv() => Wish::Reload,
        }
    }

    /// Waits until the process is to stop; `reload` is called for every wish to reload.
    pub async fn stopped(&mut self, mut reload: impl FnMut()) {
        loop {
            match self.next().await {
                Wish::Stop => return,
                Wish::Reload => reload(),
            }
        }
    }
}

/// Tells the service manager that the service is ready, when there is one.
pub fn notify_ready() {
    // Without a manager there is nobody to tell, which is no error.
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
}

/// Tells the service manager that the service is stopping.
pub fn notify_stopping() {
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
}

/// Raises the limit of open files as far as the system allows: every connection is one.
pub fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(err) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("the limit of open files stays at {soft}: {err}");
    }
}
