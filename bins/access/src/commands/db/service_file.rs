//! `~/.pg_service.conf`: databases by name, for every program that is built on libpq
//! (<https://www.postgresql.org/docs/current/libpq-pgservice.html>).
//!
//! Only what this program wrote is changed, told by a comment in each section. Everything else in
//! the file stays as it is, to the byte.

use std::path::PathBuf;

use access_daemon::{Exit, read_optional};

use super::target::Parameters;
use crate::profile::write_private;

/// The first line of a section that is ours.
const MARK: &str = "# written by: access db login";

/// The file.
#[derive(Debug)]
pub(crate) struct ServiceFile(PathBuf);

impl ServiceFile {
    /// The file that libpq reads: `PGSERVICEFILE`, or `~/.pg_service.conf`.
    pub(crate) fn of_user() -> Result<Self, Exit> {
        let given = std::env::var_os("PGSERVICEFILE").map(PathBuf::from);
        let path = given
            .or_else(|| std::env::home_dir().map(|home| home.join(".pg_service.conf")))
            .ok_or_else(|| Exit::failed("there is no home directory: set PGSERVICEFILE"))?;
        // A link stays a link.
        Ok(Self(std::fs::canonicalize(&path).unwrap_or(path)))
    }

    /// Writes a service, in place of what this program wrote before under that name.
    ///
    /// # Errors
    /// When the file cannot be read or written, or has a section of that name that is the user's.
    pub(crate) fn put(&self, service: &str, parameters: &Parameters) -> Result<(), Exit> {
        let text = read_optional(&self.0)?.unwrap_or_default();
        let (mut rest, foreign) = without(&text, |name| name == service);
        if foreign {
            return Err(Exit::failed(format!(
                "{} has a section [{service}] that access did not write: rename or remove it",
                self.0.display()
            )));
        }
        if !rest.is_empty() && !rest.ends_with('\n') {
            rest.push('\n');
        }
        rest.push_str(&format!("[{service}]\n{MARK}\n"));
        for (keyword, value) in parameters.pairs() {
            // The file knows no quotes: a value ends with its line.
            if value.contains(['\n', '\r']) {
                return Err(Exit::usage(format!("{keyword} has a line feed in it")));
            }
            rest.push_str(&format!("{keyword}={value}\n"));
        }
        write_private(&self.0, rest.as_bytes())
    }

    /// Removes services that this program wrote.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn remove(&self, service: impl Fn(&str) -> bool) -> Result<(), Exit> {
        let Some(text) = read_optional(&self.0)? else { return Ok(()) };
        let (rest, _) = without(&text, service);
        if rest == text { Ok(()) } else { write_private(&self.0, rest.as_bytes()) }
    }
}

/// A file without those of our sections whose names fit, and whether it has a section of such a
/// name that is not ours.
fn without(text: &str, fits: impl Fn(&str) -> bool) -> (String, bool) {
    let mut rest = String::with_capacity(text.len());
    let mut foreign = false;
    let mut lines = text.split_inclusive('\n').peekable();
    let mut ours = false;
    while let Some(line) = lines.next() {
        if let Some(name) = section(line) {
            let marked = lines.peek().is_some_and(|next| next.trim_end() == MARK);
            ours = marked && fits(name);
            foreign |= !marked && fits(name);
        }
        if !ours {
            rest.push_str(line);
        }
    }
    (rest, foreign)
}

fn section(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, ServiceFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = ServiceFile(dir.path().join("pg_service.conf"));
        (dir, file)
    }

    fn parameters(port: u16) -> Parameters {
        Parameters {
            host: "roach.db.example.com".into(),
            hostaddr: "192.0.2.1".into(),
            port,
            user: Some("danielle".into()),
            dbname: None,
            sslmode: "verify-full",
            sslrootcert: "/h/cas.pem".into(),
            sslcert: "/h/tls.crt".into(),
            sslkey: "/h/tls.key".into(),
        }
    }

    #[test]
    fn what_the_user_wrote_stays_to_the_byte() {
        let (_dir, file) = file();
        let theirs = "# mine\n[prod]\nhost=x\n\n  port=5 \n[last]\nhost=y";
        std::fs::write(&file.0, theirs).unwrap();
        file.put("roach.db.example.com", &parameters(443)).unwrap();
        file.put("b.db.example.com", &parameters(444)).unwrap();
        file.put("roach.db.example.com", &parameters(445)).unwrap();
        let text = std::fs::read_to_string(&file.0).unwrap();
        assert!(text.starts_with(theirs));
        assert_eq!(text.matches("[roach.db.example.com]").count(), 1);
        assert!(text.contains("port=445\n") && !text.contains("port=443\n"));
        file.remove(|name| name.ends_with(".db.example.com")).unwrap();
        assert_eq!(std::fs::read_to_string(&file.0).unwrap(), format!("{theirs}\n"));
    }

    #[test]
    fn a_section_of_the_user_is_not_overwritten() {
        let (_dir, file) = file();
        let theirs = "[roach.db.example.com]\nhost=x\n";
        std::fs::write(&file.0, theirs).unwrap();
        let refused = file.put("roach.db.example.com", &parameters(443)).unwrap_err();
        assert!(refused.to_string().contains("did not write"), "{refused}");
        file.remove(|_| true).unwrap();
        assert_eq!(std::fs::read_to_string(&file.0).unwrap(), theirs);
    }

    #[test]
    fn nothing_is_made_by_removing() {
        let (_dir, file) = file();
        file.remove(|_| true).unwrap();
        assert!(!file.0.exists());
    }
}
