//! A daemon's life: parse, check, run, reload, drain.

use std::future::Future;
use std::process::ExitCode;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Config;
use crate::diag::{Diagnostics, Readiness};
use crate::exit::Exit;
use crate::flags::DaemonFlags;
use crate::reload::Reload;
use crate::signals::{Signals, notify_ready, notify_stopping, raise_open_files};

/// Where state is kept unless the configuration says.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/access";

/// Loads the configuration, checks it or runs `main` with it, and turns errors into exit codes.
pub fn run<F>(program: &str, flags: &DaemonFlags, main: impl FnOnce(Config) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Exit>> + Send + 'static,
{
    let config = match flags.load() {
        Ok(config) => config,
        Err(err) => return Exit::usage(err).report(program),
    };
    if flags.check {
        return match crate::output::print("the configuration is good\n") {
            Ok(()) => ExitCode::SUCCESS,
            Err(exit) => exit.report(program),
        };
    }
    crate::logging::init_logging(&config.access.log);
    raise_open_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => return Exit::failed(err).report(program),
    };
    run_on(runtime, program, main(config))
}

/// Runs a program's work to its end, and turns its error into an exit code.
///
/// It is a task like any other: what [`Runtime::block_on`] polls itself is woken on a thread of its
/// own, which costs each connection that a listener in there accepts.
pub fn run_on<F>(runtime: Runtime, program: &str, work: F) -> ExitCode
where
    F: Future<Output = Result<(), Exit>> + Send + 'static,
{
    let done = runtime.block_on(runtime.spawn(work));
    runtime.shutdown_background();
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(exit)) => exit.report(program),
        Err(panicked) => Exit::failed(panicked).report(program),
    }
}

/// Signals, readiness and diagnostics of a daemon that is starting.
#[derive(Debug)]
pub struct Lifecycle {
    signals: Signals,
    readiness: Readiness,
    diagnostics: Option<Diagnostics>,
    reload: Reload,
}

impl Lifecycle {
    /// Begins to listen to signals and, when the configuration asks for it, to serve
    /// diagnostics; `parts` are what must become ready.
    ///
    /// # Errors
    /// [`Exit`] when `diag_addr` is in use.
    pub async fn start(config: &Config, parts: &[&'static str]) -> Result<Self, Exit> {
        let readiness = Readiness::default();
        for part in parts {
            readiness.wait_for(part, "starting");
        }
        let diagnostics = match config.access.diag_addr {
            None => None,
            Some(addr) => {
                Some(Diagnostics::bind(addr, readiness.clone()).await.map_err(Exit::failed)?)
            }
        };
        if let Some(diagnostics) = &diagnostics {
            let addr = diagnostics.local_addr().map_err(Exit::failed)?;
            info!(%addr, "health and metrics are served");
        }
        let signals = Signals::listen().map_err(Exit::failed)?;
        Ok(Self { signals, readiness, diagnostics, reload: Reload::new(config) })
    }

    /// What the daemon is not ready for yet.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// What follows the configuration when it is read again, on `SIGHUP`. The log does by itself.
    pub fn reload(&mut self) -> &mut Reload {
        &mut self.reload
    }

    /// Waits until the daemon has started; `None` if the process is told to stop before. A start may take long: it waits
    /// for a process before this one, a database, or a cluster that cannot be reached.
    ///
    /// # Errors
    /// What the daemon does not start for.
    pub async fn started<T>(
        &mut self,
        start: impl Future<Output = Result<T, Exit>>,
    ) -> Result<Option<T>, Exit> {
        tokio::select! {
            started = start => started.map(Some),
            () = self.signals.stopped(|| {}) => Ok(None),
        }
    }

    /// Runs a daemon to its end: it is told to stop by a signal, may then drain, and is waited
    /// for; a second signal ends it at once. `aside` runs beside it.
    ///
    /// # Errors
    /// What the daemon ends with.
    pub async fn run<F>(
        self,
        daemon: impl FnOnce(CancellationToken) -> F,
        aside: impl Future<Output = ()>,
    ) -> Result<(), Exit>
    where
        F: Future<Output = Result<(), Exit>>,
    {
        let Self { mut signals, diagnostics, mut reload, .. } = self;
        let stop = CancellationToken::new();
        let diagnostics = async {
            match diagnostics {
                Some(diagnostics) => diagnostics.serve().await,
                None => std::future::pending().await,
            }
        };
        let steer = async {
            signals.stopped(|| reload.reload()).await;
            info!("stopping: what is open may finish; a second signal ends it at once");
            notify_stopping();
            stop.cancel();
            signals.stopped(|| {}).await;
        };
        notify_ready();
        tokio::select! {
            done = daemon(stop.clone()) => done,
            () = steer => Err(Exit::failed("ended before everything was finished")),
            () = async { tokio::join!(aside, diagnostics); } => Ok(()),
        }
    }
}
