//! Flags that every daemon takes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, ConfigError};
use crate::logging::LogFormat;

/// Flags that every daemon takes; what is given here wins over the file.
#[derive(Clone, Debug, Default, Args)]
pub struct DaemonFlags {
    /// The configuration file (YAML).
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where state is kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDR")]
    pub diag_addr: Option<SocketAddr>,
    /// How to write the log.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Check the configuration and exit.
    #[arg(long)]
    pub check: bool,
}

impl DaemonFlags {
    /// The configuration: the file, if there is one, with these flags over it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        if let Some(data_dir) = &self.data_dir {
            config.access.data_dir = Some(data_dir.clone());
        }
        if let Some(diag_addr) = self.diag_addr {
            config.access.diag_addr = Some(diag_addr);
        }
        if let Some(format) = self.log_format {
            config.access.log.format = format;
        }
        config.source = crate::Source::of(self)?;
        Ok(config)
    }
}
