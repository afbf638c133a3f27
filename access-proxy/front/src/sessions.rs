//! Numbers for the sessions that pass here, for clients that name one on another connection.
//!
//! PostgreSQL's `CancelRequest` is such a case: it comes alone, without TLS, and all that says where
//! it goes is a number of 32 bits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};

/// Numbers have this many bits that differ between the sessions of one proxy. The others are the
/// same for all of them, and differ between proxies as far as they can; the sign stays clear,
/// because clients show the number as a process id.
const OWN_BITS: u32 = 20;
const OWN: u32 = (1 << OWN_BITS) - 1;
const PROXY: u32 = 0x7fff_ffff & !OWN;

/// Tries to find a number that is free. With a tenth of all numbers taken, all of them fail once
/// in 10^16 sessions.
const TRIES: u32 = 16;

/// The sessions that are open, by number.
#[derive(Debug)]
pub(crate) struct Sessions<T> {
    proxy: u32,
    open: Mutex<HashMap<u32, T>>,
}

/// A session's number, which is its own until this is dropped.
#[derive(Debug)]
pub(crate) struct SessionNumber<'a, T> {
    number: u32,
    sessions: &'a Sessions<T>,
}

impl<T> Default for Sessions<T> {
    /// None yet, with a number for this proxy by chance.
    fn default() -> Self {
        Self { proxy: random().unwrap_or(0) & PROXY, open: Mutex::default() }
    }
}

impl<T> Sessions<T> {
    /// Gives a session a number that nobody guesses from another one. `None` when there is no
    /// randomness or nearly all numbers are taken.
    pub(crate) fn enter(&self, session: T) -> Option<SessionNumber<'_, T>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            let number = self.proxy | (random()? & OWN);
            // Zero is no process id.
            if number == 0 {
                continue;
            }
            if let Entry::Vacant(free) = open.entry(number) {
                free.insert(session);
                return Some(SessionNumber { number, sessions: self });
            }
        }
        None
    }
}

impl<T: Clone> Sessions<T> {
    /// The session with a number.
    pub(crate) fn find(&self, number: u32) -> Option<T> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }
}

impl<T> SessionNumber<'_, T> {
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }
}

impl<T> Drop for SessionNumber<'_, T> {
    fn drop(&mut self) {
        let mut open = self.sessions.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.number);
    }
}

fn random() -> Option<u32> {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_leads_to_its_session_until_it_is_dropped() {
        let sessions = Sessions::default();
        let (a, b) = (sessions.enter("a").unwrap(), sessions.enter("b").unwrap());
        assert_ne!(a.number(), b.number());
        assert_eq!(sessions.find(a.number()), Some("a"));
        assert_eq!(sessions.find(b.number()), Some("b"));
        let gone = a.number();
        drop(a);
        assert_eq!(sessions.find(gone), None);
        assert_eq!(sessions.find(b.number()), Some("b"));
    }

    #[test]
    fn numbers_are_process_ids_that_share_what_is_the_proxys() {
        let sessions = Sessions::default();
        let held: Vec<_> = (0..2000).map(|n| sessions.enter(n).unwrap()).collect();
        for session in &held {
            assert!(i32::try_from(session.number()).unwrap() > 0);
            assert_eq!(session.number() & PROXY, sessions.proxy);
        }
    }
}
