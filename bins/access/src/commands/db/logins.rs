//! Which databases somebody is logged in to: one small file in the login's folder.

use std::path::PathBuf;

use access_daemon::{Exit, read_optional};

use super::target::Login;
use crate::context::Session;
use crate::profile::{make_private, write_private};

/// The databases that were logged in to with a login of the cluster.
#[derive(Debug)]
pub(crate) struct Logins {
    path: PathBuf,
    logins: Vec<Login>,
}

impl Logins {
    /// Those of a session's login.
    pub(crate) fn of(session: &Session) -> Result<Self, Exit> {
        let folder = session.home.folder(&session.proxy);
        make_private(&folder)?;
        Self::read(folder.join("databases.json"))
    }

    fn read(path: PathBuf) -> Result<Self, Exit> {
        let logins = match read_optional(&path)? {
            None => Vec::new(),
            Some(text) => serde_json::from_str(&text).map_err(|err| {
                Exit::failed(format!("{}: {err}: remove the file", path.display()))
            })?,
        };
        Ok(Self { path, logins })
    }

    /// The one of a name; without a name, the only one.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<Option<Login>, Exit> {
        match (name, self.logins.as_slice()) {
            (Some(name), logins) => Ok(logins.iter().find(|login| login.name == name).cloned()),
            (None, []) => Ok(None),
            (None, [only]) => Ok(Some(only.clone())),
            (None, several) => {
                let names: Vec<_> = several.iter().map(|login| login.name.as_str()).collect();
                Err(Exit::usage(format!("which of {}? name one", names.join(", "))))
            }
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.logins.iter().any(|login| login.name == name)
    }

    pub(crate) fn put(mut self, login: &Login) -> Result<(), Exit> {
        self.logins.retain(|known| known.name != login.name);
        self.logins.push(login.clone());
        self.save()
    }

    /// Says whether it was there.
    pub(crate) fn remove(mut self, name: &str) -> Result<bool, Exit> {
        let before = self.logins.len();
        self.logins.retain(|known| known.name != name);
        let removed = self.logins.len() < before;
        if removed {
            self.save()?;
        }
        Ok(removed)
    }

    pub(crate) fn clear(mut self) -> Result<(), Exit> {
        if self.logins.is_empty() {
            return Ok(());
        }
        self.logins.clear();
        self.save()
    }

    fn save(&self) -> Result<(), Exit> {
        let text = serde_json::to_string_pretty(&self.logins).map_err(Exit::failed)?;
        write_private(&self.path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(name: &str) -> Login {
        let protocol = "postgres".to_owned();
        Login { name: name.to_owned(), protocol, user: None, database: None }
    }

    #[test]
    fn one_is_meant_when_there_is_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Logins::read(dir.path().join("databases.json")).unwrap();
        assert_eq!(open().find(None).unwrap(), None);
        open().put(&login("a")).unwrap();
        assert_eq!(open().find(None).unwrap(), Some(login("a")));
        open().put(&login("b")).unwrap();
        assert!(open().find(None).unwrap_err().to_string().contains("a, b"));
        assert_eq!(open().find(Some("b")).unwrap(), Some(login("b")));
        assert!(open().remove("a").unwrap());
        assert!(!open().remove("a").unwrap());
        open().clear().unwrap();
        assert_eq!(open().find(None).unwrap(), None);
    }
}
