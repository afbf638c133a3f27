//! Logs: text for people, JSON for machines, to standard error.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, Severity};

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Starts logging. `RUST_LOG`, when it is set, wins over the severity. A second call changes
/// nothing.
pub fn init_logging(log: &Log) {
    let severity = match log.severity.unwrap_or(Severity::Info) {
        Severity::Error => "error",
        Severity::Warn => "warn",
        Severity::Info => "info,russh=warn,h2=warn",
        Severity::Debug => "debug,russh=info,h2=info,hyper_util=info,rustls=info",
        Severity::Trace => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(severity));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(terminal).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // An error means that a logger is there already: an embedding program's, which stays.
    drop(started);
}
