//! Logs: text for people, JSON for machines, to standard error.

use std::sync::OnceLock;

use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

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

type Format = Box<dyn Layer<Registry> + Send + Sync>;
type Change = Box<dyn Fn(&Log) -> Result<(), reload::Error> + Send + Sync>;

/// Changes the log that [`init_logging`] started.
static CHANGE: OnceLock<Change> = OnceLock::new();

/// Starts logging. `RUST_LOG`, when it is set, wins over the severity. A second call changes
/// nothing.
pub fn init_logging(log: &Log) {
    let (format, format_handle) = reload::Layer::new(format(log));
    let (filter, filter_handle) = reload::Layer::new(filter(log));
    // An error means that a logger is there already: an embedding program's, which stays.
    if tracing_subscriber::registry().with(format).with(filter).try_init().is_ok() {
        let change: Change = Box::new(move |log| {
            format_handle.reload(self::format(log))?;
            filter_handle.reload(self::filter(log))
        });
        // Only the first call gets here.
        drop(CHANGE.set(change));
    }
}

/// Has the log be written as this says from now on.
///
/// # Errors
/// Why it cannot be changed; it goes on as before then.
pub fn change_logging(log: &Log) -> Result<(), String> {
    match CHANGE.get() {
        Some(change) => change(log).map_err(|err| err.to_string()),
        None => Ok(()),
    }
}

fn filter(log: &Log) -> EnvFilter {
    let severity = match log.severity.unwrap_or(Severity::Info) {
        Severity::Error => "error",
        Severity::Warn => "warn",
        Severity::Info => "info,russh=warn,h2=warn",
        Severity::Debug => "debug,russh=info,h2=info,hyper_util=info,rustls=info",
        Severity::Trace => "trace",
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(severity))
}

fn format(log: &Log) -> Format {
    let layer = fmt::layer().with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            layer.with_ansi(terminal).with_target(false).boxed()
        }
        // Without spans: those that began under the other format have nothing to show here.
        LogFormat::Json => {
            layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    }
}
