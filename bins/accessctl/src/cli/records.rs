//! Flags of `recordings` and `audit`.

use std::path::PathBuf;

use access_core::{SessionId, Timestamp};
use access_daemon::{OutputFormat, config::Span};
use clap::{Args, Subcommand};

use super::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum RecordingsCommand {
    /// List them.
    ///
    /// Example: accessctl recordings ls --format=json
    Ls {
        #[command(flatten)]
        format: Format,
    },
    /// Save one to a file, for `access play FILE`.
    ///
    /// Example: accessctl recordings download 0197e0d4-5f1c-4a6b-9c3d-2b1a0f9e8d7c --out=s.rec
    Download {
        /// The session.
        #[arg(value_name = "SESSION")]
        session: SessionId,
        /// Where to write; SESSION.rec by default, - for standard output.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Replace a file that is there.
        #[arg(long)]
        overwrite: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Search it; the newest come first.
    ///
    /// Example: accessctl audit search --from=24h --type=session.start,session.end --user=alice
    Search(SearchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// From when on: 2026-01-02T03:04:05Z, 2026-01-02, or a span before now such as 24h.
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<Moment>,
    /// Until when.
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<Moment>,
    /// Only events of these names, such as session.start.
    #[arg(long = "type", value_name = "NAMES", value_delimiter = ',')]
    pub(crate) types: Vec<String>,
    /// Only events of this user.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Only events in which this text stands, whatever the case of its letters.
    #[arg(long, value_name = "TEXT")]
    pub(crate) query: Option<String>,
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,
    /// How to print them.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: OutputFormat,
}

/// A moment as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// That moment.
    At(Timestamp),
    /// So long ago.
    Ago(Span),
}

impl Moment {
    /// Which moment that is.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::Ago(span) => now.minus(span.0),
        }
    }
}

impl std::str::FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(moment) = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse()) {
            return Ok(Self::At(moment));
        }
        text.parse().map(Self::Ago).map_err(|_| {
            format!(
                "{text:?} is no time: write 2026-01-02T03:04:05Z, 2026-01-02, or 24h for a day ago"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_days_or_spans() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (text, moment) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T04:04:05+01:00", "2026-01-02T03:04:05Z"),
            ("2026-01-01", "2026-01-01T00:00:00Z"),
            ("24h", "2026-01-01T03:04:05Z"),
        ] {
            let read: Moment = text.parse().unwrap();
            assert_eq!(read.resolve(now), moment.parse().unwrap(), "{text}");
        }
        assert!("yesterday".parse::<Moment>().unwrap_err().contains("24h"));
    }
}
