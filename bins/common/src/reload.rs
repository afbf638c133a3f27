//! What happens on `SIGHUP`: the configuration is read again, and what can change does.
//!
//! A configuration that cannot be read, or that a part of the program refuses, changes nothing.
//! What has changed and takes a restart is logged by the field's name.

use std::path::PathBuf;

use serde_json::Value;
use tracing::{error, info, warn};

use crate::config::{Config, ConfigError};
use crate::flags::DaemonFlags;

/// Where a configuration came from: what it takes to read it again.
#[derive(Clone, Debug, Default)]
pub struct Source {
    flags: Option<DaemonFlags>,
    /// The file as it was read last, without regard to what its fields mean.
    file: Value,
}

/// A part of the program that follows the configuration.
type Follow = Box<dyn FnMut(&Config) -> Result<(), String> + Send>;

/// Reads the configuration again when it is asked to.
pub struct Reload {
    source: Source,
    parts: Vec<(&'static str, Follow)>,
}

impl Source {
    pub(crate) fn of(flags: &DaemonFlags) -> Result<Self, ConfigError> {
        let file = flags.config.as_deref().map(Config::load_fields).transpose()?;
        Ok(Self { flags: Some(flags.clone()), file: file.unwrap_or_default() })
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&PathBuf> {
        self.flags.as_ref()?.config.as_ref()
    }
}

impl Reload {
    /// Follows what a configuration came from. The log follows it from the start.
    pub fn new(config: &Config) -> Self {
        let mut reload = Self { source: config.source.clone(), parts: Vec::new() };
        reload.follow("access.log", |config| crate::change_logging(&config.access.log));
        reload
    }

    /// Has a field, and all below it, be followed: `follow` is called with each configuration that
    /// is read, and says why it cannot be used.
    pub fn follow(
        &mut self,
        field: &'static str,
        follow: impl FnMut(&Config) -> Result<(), String> + Send + 'static,
    ) {
        self.parts.push((field, Box::new(follow)));
    }

    /// Reads the configuration again and has the program follow it.
    pub fn reload(&mut self) {
        let Some(flags) = self.source.flags.as_ref().filter(|flags| flags.config.is_some()) else {
            info!("there is no configuration file to be read again");
            return;
        };
        let config = match flags.load() {
            Ok(config) => config,
            Err(err) => {
                error!("the configuration stays as it was: {err}");
                return;
            }
        };
        for (field, follow) in &mut self.parts {
            if let Err(why) = follow(&config) {
                error!("{field} stays as it was: {why}");
            }
        }
        let mut changed = Vec::new();
        differences("", &self.source.file, &config.source.file, &mut changed);
        for field in &changed {
            if self.parts.iter().any(|(followed, _)| is_below(field, followed)) {
                info!("{field} has changed and is followed");
            } else {
                warn!("{field} has changed: it takes a restart");
            }
        }
        if changed.is_empty() {
            info!("the configuration was read again: nothing in it has changed");
        }
        // What takes a restart is told once for each change.
        self.source = config.source;
    }
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Whether a field is another one or below it.
fn is_below(field: &str, other: &str) -> bool {
    field.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The fields in which two files differ. Lists differ as a whole.
fn differences(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let empty = serde_json::Map::new();
    let fields = |value: &Value| match value {
        Value::Object(fields) => Some(fields.clone()),
        Value::Null => Some(empty.clone()),
        _ => None,
    };
    match (fields(old), fields(new)) {
        _ if old == new => {}
        (Some(old), Some(new)) if !old.is_empty() || !new.is_empty() => {
            let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let side = |fields: &serde_json::Map<_, _>| {
                    fields.get(name).cloned().unwrap_or(Value::Null)
                };
                differences(&path, &side(&old), &side(&new), found);
            }
        }
        // A section that is there without a field can mean more than one that is not.
        _ => found.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn changed(old: &str, new: &str) -> Vec<String> {
        let read = |text: &str| serde_saphyr::from_str(text).unwrap();
        let mut found = Vec::new();
        differences("", &read(old), &read(new), &mut found);
        found
    }

    #[test]
    fn fields_that_differ_are_named() {
        let old = "a: {b: 1, c: [x]}\nd: 1\n";
        assert_eq!(changed(old, "a: {b: 1, c: [x]}\nd: 1\n"), Vec::<String>::new());
        assert_eq!(changed(old, "a: {b: 2, c: [x, y]}\ne: {f: 1}\n"), ["a.b", "a.c", "d", "e.f"]);
        assert_eq!(changed("a: 1\n", "a: 1\nssh_service: {}\n"), ["ssh_service"]);
    }

    #[test]
    fn what_is_invalid_changes_nothing_and_what_is_valid_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.yaml");
        std::fs::write(&path, "access: {nodename: a}\nssh_service: {labels: {env: dev}}\n")
            .unwrap();
        let flags = DaemonFlags { config: Some(path.clone()), ..DaemonFlags::default() };
        let mut reload = Reload::new(&flags.load().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&seen);
        reload.follow("ssh_service.labels", move |config| {
            let section = config.ssh_service.as_ref().ok_or("ssh_service is gone")?;
            note.lock().unwrap().push(section.labels["env"].clone());
            Ok(())
        });
        for invalid in ["access: {nodname: a}\n", "access: [", "ssh_service: {enabled: maybe}\n"] {
            std::fs::write(&path, invalid).unwrap();
            reload.reload();
        }
        std::fs::remove_file(&path).unwrap();
        reload.reload();
        assert!(seen.lock().unwrap().is_empty());
        std::fs::write(&path, "access: {nodename: b}\nssh_service: {labels: {env: prod}}\n")
            .unwrap();
        reload.reload();
        assert_eq!(*seen.lock().unwrap(), ["prod"]);
        assert_eq!(reload.source.file["access"]["nodename"], "b", "the next change is seen");
    }
}
