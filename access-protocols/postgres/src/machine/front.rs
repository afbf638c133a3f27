//! What a client asks for when it begins, and what the server is asked for in its place.

use crate::wire::{Failure, Startup, encode, sqlstate};

use bytes::Bytes;

/// The newest minor version of protocol 3 that is spoken with clients.
const NEWEST_MINOR: u16 = 2;

/// Makes the server itself refuse to write.
const READ_ONLY: &str = "default_transaction_read_only";

/// A session that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) replication: bool,
    /// The minor version that is spoken from now on.
    minor: u16,
    /// The client must be told of that, or of these options that are not known here.
    negotiate: bool,
    unknown: Vec<String>,
    rest: Vec<(String, String)>,
}

impl Asked {
    /// Reads a StartupMessage.
    ///
    /// # Errors
    /// The [`Failure`] for a client that names no user, or nonsense.
    pub(crate) fn new(startup: Startup) -> Result<Self, Failure> {
        let (mut user, mut database, mut replication) = (String::new(), String::new(), false);
        let (mut unknown, mut rest) = (Vec::new(), Vec::new());
        for (name, value) in startup.parameters {
            match name.as_str() {
                "user" => user = value,
                "database" => database = value,
                "replication" => {
                    replication = wants_replication(&value)?;
                    rest.push((name, value));
                }
                _ if name.starts_with("_pq_.") => unknown.push(name),
                _ => rest.push((name, value)),
            }
        }
        if user.is_empty() {
            return Err(Failure::fatal(
                sqlstate::INVALID_AUTHORIZATION,
                "no PostgreSQL user name specified in startup packet",
            ));
        }
        if database.is_empty() {
            database.clone_from(&user);
        }
        let negotiate = startup.minor > NEWEST_MINOR || !unknown.is_empty();
        let minor = startup.minor.min(NEWEST_MINOR);
        Ok(Self { user, database, replication, minor, negotiate, unknown, rest })
    }

    /// What comes before AuthenticationOk.
    pub(crate) fn negotiation(&self, out: &mut bytes::BytesMut) {
        if self.negotiate {
            encode::negotiate_version(out, self.minor, &self.unknown);
        }
    }

    /// How many bytes of secret the client's cancel key has.
    pub(crate) const fn secret_len(&self) -> usize {
        if self.minor >= 2 { 32 } else { 4 }
    }

    /// The client's name for itself, if it gave one.
    pub(crate) fn application(&self) -> Option<&str> {
        let named = |(name, _): &&(String, String)| name == "application_name";
        self.rest.iter().find(named).map(|(_, value)| value.as_str())
    }

    /// The StartupMessage for the server: everything that the client sent, and if the session may
    /// only read, that its transactions do so. The setting comes last, so that it holds against
    /// the client's `options`.
    pub(crate) fn for_server(&self, read_only: bool) -> Bytes {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut parameters = vec![pair("user", &self.user), pair("database", &self.database)];
        let kept = |(name, _): &&(String, String)| {
            !read_only || !name.trim().eq_ignore_ascii_case(READ_ONLY)
        };
        parameters.extend(self.rest.iter().filter(kept).cloned());
        if read_only {
            parameters.push(pair(READ_ONLY, "on"));
        }
        encode::startup(&parameters)
    }
}

fn wants_replication(value: &str) -> Result<bool, Failure> {
    match value.to_ascii_lowercase().as_str() {
        "database" | "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" | "" => Ok(false),
        _ => Err(Failure::fatal("22023", "invalid value for parameter \"replication\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{First, first};

    fn asked(parameters: &[(&str, &str)], minor: u16) -> Result<Asked, Failure> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Asked::new(Startup { minor, parameters: parameters.iter().map(pair).collect() })
    }

    #[test]
    fn the_database_is_the_users_unless_named() {
        let named = asked(&[("user", "u"), ("database", "d")], 0).unwrap();
        assert_eq!(named.database, "d");
        assert_eq!(asked(&[("user", "u")], 0).unwrap().database, "u");
        assert_eq!(asked(&[("database", "d")], 0).unwrap_err().code, "28000");
        assert!(asked(&[("user", "u"), ("replication", "maybe")], 0).is_err());
    }

    #[test]
    fn read_only_is_said_last_and_once() {
        let asked = asked(
            &[
                ("user", "u"),
                ("Default_Transaction_Read_Only", "off"),
                ("options", "-c default_transaction_read_only=off"),
                ("application_name", "psql"),
            ],
            0,
        )
        .unwrap();
        let Ok(Some((First::Startup(sent), _))) = first(&asked.for_server(true)) else {
            panic!("no startup message")
        };
        let names: Vec<_> = sent.parameters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["user", "database", "options", "application_name", READ_ONLY]);
        assert_eq!(sent.parameters.last().unwrap().1, "on");
        let Ok(Some((First::Startup(sent), _))) = first(&asked.for_server(false)) else {
            panic!("no startup message")
        };
        assert_eq!(sent.parameters.len(), 5);
    }

    #[test]
    fn newer_minor_versions_and_unknown_options_are_negotiated() {
        let told = |asked: &Asked| {
            let mut out = bytes::BytesMut::new();
            asked.negotiation(&mut out);
            out
        };
        let plain = asked(&[("user", "u")], 0).unwrap();
        assert!(told(&plain).is_empty());
        assert_eq!(plain.secret_len(), 4);
        let newer = asked(&[("user", "u"), ("_pq_.x", "1")], 9999).unwrap();
        assert_eq!(&told(&newer)[..], b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
        assert_eq!(newer.secret_len(), 32);
    }
}
