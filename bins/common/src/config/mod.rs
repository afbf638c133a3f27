//! The configuration file: one schema, of which each program reads its own sections.

mod databases;
mod oracle;
mod schema;
mod value;

use std::path::{Path, PathBuf};

pub use databases::*;
#[doc(hidden)]
pub use oracle::fuzz_oracle;
pub use schema::*;
pub use value::{Span, Switch};

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A field is unknown, mistyped, or holds what it cannot.
    #[error("{}:{line}:{column}: {what}", path.display())]
    Field {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
        /// What is wrong, with the nearest valid name.
        what: String,
    },
    /// Fields do not go together, or one is missing.
    #[error("the configuration is not complete: {0}")]
    Incomplete(String),
}

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

impl Config {
    /// Where state is kept.
    pub fn data_dir(&self) -> PathBuf {
        let default = || PathBuf::from(crate::lifecycle::DEFAULT_DATA_DIR);
        self.access.data_dir.clone().unwrap_or_else(default)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] names the field, the line and the nearest valid name.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&Self::text(path)?, path)
    }

    /// Reads a file's fields, whatever they mean.
    pub(crate) fn load_fields(path: &Path) -> Result<serde_json::Value, ConfigError> {
        let text = Self::text(path)?;
        if text.trim().is_empty() {
            return Ok(serde_json::Value::Null);
        }
        serde_saphyr::from_str(&text).map_err(|err| field_error(&err, path))
    }

    fn text(path: &Path) -> Result<String, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > MAX_FILE {
            return Err(read(std::io::Error::other("it is larger than 1 MiB")));
        }
        std::fs::read_to_string(path).map_err(read)
    }

    /// Reads a text; `path` is for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|err| field_error(&err, path))
    }
}

fn field_error(err: &serde_saphyr::Error, path: &Path) -> ConfigError {
    let err = err.without_snippet();
    let (line, column) = err.location().map_or((1, 1), |at| (at.line(), at.column()));
    ConfigError::Field { path: path.to_owned(), line, column, what: explain(err) }
}

/// The complaint without the position, which stands before it, and with the nearest valid name.
fn explain(err: &serde_saphyr::Error) -> String {
    if let serde_saphyr::Error::SerdeUnknownField { field, expected, .. } = err {
        return access_core::document::unknown("field", field, expected);
    }
    let text = err.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.split(" at line ").next().unwrap_or(text);
    let text = text.strip_prefix("error: ").unwrap_or(text);
    access_core::document::explain(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("access.yaml")).map_err(|err| err.to_string())
    }

    #[test]
    fn the_contract_s_file_is_read() {
        let text = r#"
access:
  nodename: web-1
  data_dir: /var/lib/access
  storage: { type: sqlite }
  proxy_server: example.com:443
  join_params: { method: token, token_name: abc }
  ca_pin: sha256:0000000000000000000000000000000000000000000000000000000000000000
  diag_addr: 127.0.0.1:3000
  log: { severity: info, format: text }
auth_service:   { enabled: yes, listen_addr: 0.0.0.0:3025, cluster_name: example.com }
proxy_service:  { enabled: yes, web_listen_addr: 0.0.0.0:443, public_addr: example.com:443,
                  https_keypairs: [{ cert_file: a, key_file: b }], proxy_protocol: off }
ssh_service:    { enabled: yes, labels: { env: prod }, mode: local }
db_service:     { enabled: yes, databases: [ { name: roach, uri: "crdb:26257", protocol: cockroachdb, static_labels: {a: b}, tls: { mode: verify-full, ca_cert_file: x } } ] }
"#;
        let config = parse(text).unwrap();
        assert!(config.auth_service.enabled());
        assert_eq!(config.ssh_service.unwrap().labels["env"], "prod");
        assert_eq!(config.db_service.unwrap().databases[0].name, "roach");
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line_and_the_nearest() {
        let err = parse("access:\n  nodename: a\n  data_dirr: /x\n").unwrap_err();
        assert!(err.starts_with("access.yaml:3:"), "{err}");
        assert!(err.contains("data_dirr") && err.contains("\"data_dir\""), "{err}");
    }

    #[test]
    fn databases_of_administrators_are_matched_by_labels() {
        let section = |resources: &str| {
            let config = parse(&format!("db_service:\n  resources:\n{resources}"))?;
            Ok::<_, String>(config.db_service.unwrap().resources)
        };
        let read =
            section("  - labels: { env: [dev, test], team: core }\n  - labels: { '*': '*' }\n");
        let read = read.unwrap();
        assert_eq!(read[0].to_json(), r#"{"labels":{"env":["dev","test"],"team":["core"]}}"#);
        assert_eq!(read.len(), 2);
        for (wrong, why) in [
            ("  - label: { env: dev }\n", "did you mean \"labels\"?"),
            ("  - labels: {}\n", "resources: labels: name one at least"),
            ("  - labels: { env: '^(' , '*': x }\n", "must be \"*\" too"),
            ("  - labels: dev\n", "expected mapping"),
        ] {
            let err = section(wrong).unwrap_err();
            assert!(err.starts_with("access.yaml:3:") && err.contains(why), "{err}");
        }
    }

    #[test]
    fn a_staleness_that_denies_while_all_is_well_is_refused() {
        for short in ["0s", "5s", "7900ms"] {
            let err = parse(&format!("access:\n  max_staleness: {short}\n")).unwrap_err();
            assert!(err.starts_with("access.yaml:2:"), "{err}");
            let value = format!("{:?} is too short", short.parse::<Span>().unwrap().0);
            for part in ["max_staleness", &value, "8s is the least"] {
                assert!(err.contains(part), "{part}: {err}");
            }
        }
        let config = parse("access:\n  max_staleness: 8s\n").unwrap();
        assert_eq!(config.access.max_staleness, Some(Span(access_core::gate::LEAST_STALENESS)));
    }

    #[test]
    fn events_are_kept_for_a_year_unless_somebody_says_so() {
        let kept = |text: &str| {
            let config = parse(&format!("access:\n  storage:\n    {text}\n"));
            config.map(|config| config.access.storage.audit_retention.0)
        };
        let days = |days: u64| Ok(Some(std::time::Duration::from_secs(days * 86_400)));
        assert_eq!(kept("type: memory"), days(365));
        assert_eq!(kept("audit_retention: 90d"), days(90));
        assert_eq!(kept("audit_retention: off"), Ok(None));
        for wrong in ["12h", "40000d", "never", "0d"] {
            let err = kept(&format!("audit_retention: {wrong}")).unwrap_err();
            assert!(err.starts_with("access.yaml:3:"), "{err}");
        }
    }

    #[test]
    fn a_mistyped_field_is_named_with_its_line() {
        let err = parse("access:\n  nodename: a\nssh_service:\n  enabled: maybe\n").unwrap_err();
        assert!(err.starts_with("access.yaml:4:"), "{err}");
        let err = parse("access:\n  diag_addr: nowhere\n").unwrap_err();
        assert!(err.starts_with("access.yaml:2:") && err.contains("HOST:PORT"), "{err}");
    }
}
