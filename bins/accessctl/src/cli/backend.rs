//! Flags of `backend`.

use std::path::PathBuf;

use access_daemon::config::Span;
use clap::{Args, Subcommand, ValueEnum};

use super::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum BackendCommand {
    /// Show the store: engine, version, regions, latency, how far its feed of changes is behind.
    ///
    /// Example: accessctl backend status --format=json
    Status {
        #[command(flatten)]
        format: Format,
    },
    /// Move the cluster to another store, and back.
    ///
    /// It copies while the Auth Service runs, waits until that has been stopped, copies what is left, compares both
    /// sides by count and hash, and says so: then start the Auth Service on the new store. Broken off at any point, it
    /// is gone on with by the same command. The old store refuses to be used afterwards.
    ///
    /// A store is sqlite:PATH, postgres://USER@HOST/DATABASE or cockroachdb://USER@HOST/DATABASE. Arguments are seen by
    /// every process of this machine: a connection string with a password belongs in a configuration file, of which
    /// --from-config and --to-config read the storage section.
    ///
    /// Example: accessctl backend migrate --from=sqlite:/var/lib/access/access.db --to-config=new.yaml
    Migrate(MigrateArgs),
    /// Spread a CockroachDB store over regions: prints the statements, and runs them with --apply.
    ///
    /// Example: accessctl backend multi-region --primary=us-east1 --region=us-west1,europe-west1 --survive=region
    MultiRegion(MultiRegionArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The store that is in use.
    #[arg(long, value_name = "STORE", required_unless_present = "from_config")]
    pub(crate) from: Option<String>,
    /// The configuration of the Auth Service that uses it.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub(crate) from_config: Option<PathBuf>,
    /// The store that it goes to: an empty one, or the one that it came from.
    #[arg(long, value_name = "STORE", required_unless_present_any = ["to_config", "undo"])]
    pub(crate) to: Option<String>,
    /// The configuration of the Auth Service that is going to use it.
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    pub(crate) to_config: Option<PathBuf>,
    /// How long to wait for the Auth Service to be stopped, copying meanwhile.
    #[arg(long, value_name = "SPAN", default_value = "1h")]
    pub(crate) wait: Span,
    /// Copy and leave it at that: what is there already need not be copied when it counts.
    #[arg(long)]
    pub(crate) copy_only: bool,
    /// Let the old store be used again, without what was written to the new one.
    #[arg(long, conflicts_with_all = ["to", "to_config", "copy_only"])]
    pub(crate) undo: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MultiRegionArgs {
    /// Where most of the Auth processes are.
    #[arg(long, value_name = "REGION")]
    pub(crate) primary: String,
    /// The other regions.
    #[arg(long = "region", value_name = "REGIONS", value_delimiter = ',')]
    pub(crate) regions: Vec<String>,
    /// Which of them becomes the primary one when that is lost.
    #[arg(long, value_name = "REGION")]
    pub(crate) secondary: Option<String>,
    /// What the store outlives: the loss of a zone, or of a region, which takes three of them.
    #[arg(long, value_enum, default_value_t = SurviveArg::Zone)]
    pub(crate) survive: SurviveArg,
    /// The database, where no --config says it.
    #[arg(long, value_name = "NAME", default_value = "access_backend")]
    pub(crate) database: String,
    /// Run the statements, on the store of --config.
    #[arg(long)]
    pub(crate) apply: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SurviveArg {
    /// A region.
    Region,
    /// A zone.
    Zone,
}
