//! Signals under the names of RFC 4254, section 6.10.

use nix::sys::signal::Signal;

/// The names that the RFC has.
const NAMES: [(&str, Signal); 13] = [
    ("ABRT", Signal::SIGABRT),
    ("ALRM", Signal::SIGALRM),
    ("FPE", Signal::SIGFPE),
    ("HUP", Signal::SIGHUP),
    ("ILL", Signal::SIGILL),
    ("INT", Signal::SIGINT),
    ("KILL", Signal::SIGKILL),
    ("PIPE", Signal::SIGPIPE),
    ("QUIT", Signal::SIGQUIT),
    ("SEGV", Signal::SIGSEGV),
    ("TERM", Signal::SIGTERM),
    ("USR1", Signal::SIGUSR1),
    ("USR2", Signal::SIGUSR2),
];

/// The signal of a name.
pub(crate) fn by_name(name: &str) -> Option<Signal> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
}

/// The name of a signal. Those that the RFC does not name get the form that it has for names of
/// one's own: `BUS@access`, or `65@access` where the system itself has no name.
pub(crate) fn name_of(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => NAMES
            .iter()
            .find(|(_, known)| *known == signal)
            .map(|(name, _)| (*name).to_owned())
            .unwrap_or_else(|| {
                format!("{}@access", signal.as_str().strip_prefix("SIG").unwrap_or(signal.as_str()))
            }),
        Err(_) => format!("{number}@access"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_signals_and_back() {
        assert_eq!(by_name("TERM"), Some(Signal::SIGTERM));
        assert_eq!(by_name("SIGTERM"), None);
        assert_eq!(by_name("STOP"), None);
        for (name, signal) in NAMES {
            assert_eq!(name_of(signal as i32), name);
        }
        assert_eq!(name_of(7), "BUS@access");
        assert_eq!(name_of(60), "60@access");
    }
}
