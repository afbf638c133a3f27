//! Names and ids, one type each, so that one is never taken for another.
//!
//! Every type checks its text when it is made, so that what holds one can use it in a key path,
//! a certificate or a log line without looking again.

use std::fmt;

/// A text that cannot be the id it was meant to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {text:?}: {why}")]
pub struct IdError {
    what: &'static str,
    text: String,
    why: &'static str,
}

macro_rules! string_ids {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $check:path;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            #[doc = concat!("Checks a text and makes it a ", $what, ".")]
            ///
            /// # Errors
            /// [`IdError`] says what is wrong with the text.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(why) => Err(IdError {
                        what: $what,
                        text: text.chars().take(80).collect(),
                        why,
                    }),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

string_ids! {
    /// A cluster's name: a DNS name in lower case, because resources are reached as
    /// `NAME.node.CLUSTER`.
    ClusterName, "cluster name", dns_name;
    /// A person's or a bot's name in the cluster.
    UserName, "user name", short_text;
    /// An account on a target: a Unix login, a database user.
    Login, "login", short_text;
    /// A role's name.
    RoleName, "role name", short_text;
    /// The id of an agent, proxy or Auth replica: made once, kept in its data directory.
    HostId, "host id", token_text;
    /// A resource's name, unique among its kind.
    ResourceName, "resource name", short_text;
    /// The id of one session; names its recording too.
    SessionId, "session id", token_text;
    /// Whose sequence numbers an event carries: one spool file's lifetime.
    WriterId, "writer id", token_text;
    /// Ties together what one connection caused on several machines.
    TraceId, "trace id", token_text;
}

macro_rules! random_ids {
    ($($name:ident),*) => {$(
        impl $name {
            /// An id from 16 random bytes, which the caller draws, written as a UUID (RFC 9562,
            /// version 4).
            pub fn from_random(random: [u8; 16]) -> Self {
                Self(uuid_text(random).into())
            }
        }
    )*};
}

random_ids!(HostId, SessionId, WriterId, TraceId);

/// Sixteen random bytes in the form of a version 4 UUID (RFC 9562, section 5.4).
pub fn uuid_text(mut bytes: [u8; 16]) -> String {
    let [.., v, _, r, _, _, _, _, _, _, _] = &mut bytes;
    *v = (*v & 0x0f) | 0x40;
    *r = (*r & 0x3f) | 0x80;
    // By hand: each audit event has one.
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or(b'0');
    let mut text = Vec::with_capacity(36);
    for (n, byte) in bytes.into_iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        text.extend_from_slice(&[digit(byte >> 4), digit(byte & 0x0f)]);
    }
    String::from_utf8(text).unwrap_or_default()
}

/// The longest name in bytes.
const MAX_NAME: usize = 128;

fn short_text(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > MAX_NAME {
        return Err("it is longer than 128 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    if text.contains(['/', ',']) || text.trim() != text {
        return Err("it has a slash, a comma, or a space at an end");
    }
    if text.starts_with('-') {
        return Err("it starts with a dash, so that tools would read it as a flag");
    }
    Ok(())
}

fn token_text(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 64 {
        return Err("it must have 1 to 64 characters");
    }
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        Ok(())
    } else {
        Err("only letters, digits, '-' and '_' are allowed")
    }
}

fn dns_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 200 {
        return Err("it must have 1 to 200 characters");
    }
    if text.split('.').all(is_dns_label) {
        Ok(())
    } else {
        Err("it must be a DNS name in lower case, such as example.com")
    }
}

/// Whether a text is one DNS label in lower case (RFC 1123, section 2.1).
pub fn is_dns_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_texts_are_no_ids() {
        for text in ["", "a\nb", "-oProxyCommand=x", "a/b", " a", "a,b"] {
            assert!(Login::new(text).is_err(), "{text:?}");
        }
        assert!(UserName::new("alice@example.com").is_ok());
        assert!(ClusterName::new("Example.com").is_err());
        assert!(ClusterName::new("a..b").is_err());
        assert!(SessionId::new("../../etc").is_err());
    }

    #[test]
    fn random_ids_are_version_4_uuids() {
        let id = SessionId::from_random([0xff; 16]);
        assert_eq!(id.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let id =
            SessionId::from_random(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes());
        assert_eq!(id.as_str(), "01234567-89ab-4def-8123-456789abcdef");
    }
}
