//! What is handed out once and stored hashed: tickets of join tokens and invitations.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The longest text that is looked at as a ticket, in bytes.
const MAX_TICKET: usize = 200;

/// A public id and the secret that goes with it. Its text is `ID.SECRET`.
pub(crate) struct Ticket {
    pub(crate) id: String,
    secret: Zeroizing<String>,
}

impl Ticket {
    /// A ticket with an id of 64 and a secret of 192 random bits.
    pub(crate) fn new() -> Result<Self> {
        let id = HEXLOWER.encode(&random::<8>()?);
        let secret = Zeroizing::new(random::<24>()?);
        Ok(Self { id, secret: Zeroizing::new(BASE64URL_NOPAD.encode(&*secret)) })
    }

    /// Reads a ticket; `None` when the text can't be one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.trim().split_once('.')?;
        let plain = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        (text.len() <= MAX_TICKET && plain(id) && plain(secret))
            .then(|| Self { id: id.to_owned(), secret: Zeroizing::new(secret.to_owned()) })
    }

    /// What is handed out.
    pub(crate) fn text(&self) -> String {
        format!("{}.{}", self.id, *self.secret)
    }

    /// What is stored. The secret is as random as the hash is long, so that no salt is needed.
    pub(crate) fn hash(&self) -> String {
        let material = Zeroizing::new(format!("access ticket\0{}\0{}", self.id, *self.secret));
        HEXLOWER.encode(digest(&SHA256, material.as_bytes()).as_ref())
    }

    /// Whether this is the ticket that a hash was stored of.
    pub(crate) fn matches(&self, hash: &str) -> bool {
        self.hash().as_bytes().ct_eq(hash.as_bytes()).into()
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({}…)", self.id)
    }
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Internal("the system's random number generator failed".into()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_survive_their_text_and_match_only_their_own_hash() {
        let (one, other) = (Ticket::new().unwrap(), Ticket::new().unwrap());
        let read = Ticket::parse(&format!(" {}\n", one.text())).unwrap();
        assert!(read.matches(&one.hash()) && !read.matches(&other.hash()));
        let mixed = Ticket::parse(&format!("{}.{}", other.id, *one.secret)).unwrap();
        assert!(!mixed.matches(&one.hash()) && !mixed.matches(&other.hash()));
        assert!(!format!("{one:?}").contains(&*one.secret));
    }

    #[test]
    fn hostile_texts_are_no_tickets() {
        for text in ["", ".", "a", "a.", ".b", "a/../b.c", "a.b.c", "a.b c", &"a.".repeat(200)] {
            assert!(Ticket::parse(text).is_none(), "{text:?}");
        }
    }
}
