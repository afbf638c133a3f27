//! What must hold for any bytes whatever; shared by the fuzz target and tests.

use std::path::Path;

use super::{Config, ConfigError};

/// Checks that a file is read or refused in one line that says where.
///
/// # Panics
/// When that does not hold.
pub fn fuzz_oracle(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::parse(text, Path::new("access.yaml")) {
        Ok(config) => {
            let _ = (config.data_dir(), config.auth_service.enabled());
        }
        Err(ConfigError::Field { line, column, what, .. }) => {
            assert!(line > 0 && column > 0, "{line}:{column} is nowhere: {what}");
            assert!(!what.is_empty(), "refused without a word");
            assert!(!what.chars().any(char::is_control), "{what:?} would garble a terminal");
        }
        Err(err) => assert!(matches!(err, ConfigError::Incomplete(_)), "{err}"),
    }
}
