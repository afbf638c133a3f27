//! What the handler keeps of an open channel.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use access_core::reach::{Pty, PtySize};
use russh::server::Msg;
use russh::{ChannelId, ChannelOpenFailure, ChannelWriteHalf, Sig};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::input::Input;
use crate::wire::Link;

/// The most environment variables that a channel may set.
const MAX_ENVIRONMENT: usize = 64;
/// The longest value of one, in bytes.
const MAX_VALUE: usize = 4096;
/// The longest value of `TERM`.
const MAX_TERM: usize = 64;
/// The most signals that wait to be sent.
const MAX_SIGNALS: usize = 8;

/// Sends what a channel's client shall see.
pub(crate) type Writer = ChannelWriteHalf<Msg>;

/// An open channel.
pub(crate) struct Channel {
    /// Dead once whoever reads it is done, so that nothing is queued for nobody.
    input: Weak<Input>,
    closed: CancellationToken,
    size: watch::Sender<PtySize>,
    signals: mpsc::Sender<String>,
    is_session: bool,
    pending: Option<Pending>,
}

/// A session channel for which nothing was started yet.
pub(crate) struct Pending {
    pub(crate) writer: Writer,
    pub(crate) ends: Ends,
    pub(crate) pty: Option<Pty>,
    pub(crate) environment: Vec<(String, String)>,
}

/// The other side of a [`Channel`]: what a task that serves it takes.
pub(crate) struct Ends {
    pub(crate) input: Arc<Input>,
    /// The client closed it.
    pub(crate) closed: CancellationToken,
    pub(crate) size: watch::Receiver<PtySize>,
    pub(crate) signals: mpsc::Receiver<String>,
}

/// The channels of a connection.
#[derive(Default)]
pub(crate) struct Channels(HashMap<ChannelId, Channel>);

impl Channels {
    /// Opens a channel for a session.
    pub(crate) fn open_session(&mut self, link: &Arc<Link>, writer: Writer) {
        let id = writer.id();
        let (mut channel, ends) = Channel::new(link, true);
        channel.pending = Some(Pending { writer, ends, pty: None, environment: Vec::new() });
        self.0.insert(id, channel);
    }

    /// Opens a channel for something else, which is closed when its ends are dropped.
    pub(crate) fn open(&mut self, link: &Arc<Link>, id: ChannelId) -> Ends {
        let (channel, ends) = Channel::new(link, false);
        self.0.insert(id, channel);
        ends
    }

    /// How many are open: all, and sessions.
    pub(crate) fn count(&mut self) -> (usize, usize) {
        // Of one that was refused after a while, the client never says that it is closed.
        self.0.retain(|_, channel| channel.is_session || channel.input.strong_count() > 0);
        (self.0.len(), self.0.values().filter(|channel| channel.is_session).count())
    }

    pub(crate) fn get(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.0.get_mut(&id)
    }

    pub(crate) fn close(&mut self, id: ChannelId) {
        if let Some(channel) = self.0.remove(&id) {
            channel.closed.cancel();
        }
    }
}

impl Channel {
    fn new(link: &Arc<Link>, is_session: bool) -> (Self, Ends) {
        let input = Arc::new(Input::new(Arc::clone(link)));
        let closed = CancellationToken::new();
        let (size, new_size) = watch::channel(PtySize::default());
        let (signals, next_signal) = mpsc::channel(MAX_SIGNALS);
        let channel = Self {
            input: Arc::downgrade(&input),
            closed: closed.clone(),
            size,
            signals,
            is_session,
            pending: None,
        };
        (channel, Ends { input, closed, size: new_size, signals: next_signal })
    }

    pub(crate) fn data(&self, data: &[u8]) {
        if let Some(input) = self.input.upgrade() {
            input.push(data);
        }
    }

    pub(crate) fn eof(&self) {
        if let Some(input) = self.input.upgrade() {
            input.end();
        }
    }

    /// Asks for a terminal; refused once something was started.
    pub(crate) fn want_pty(&mut self, term: &str, size: PtySize, modes: Vec<(u8, u32)>) -> bool {
        let Some(pending) = &mut self.pending else { return false };
        let sane = !term.is_empty()
            && term.len() <= MAX_TERM
            && term.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b));
        let term = if sane { term } else { "dumb" }.to_owned();
        self.size.send_replace(size);
        pending.pty = Some(Pty { term, size, modes });
        true
    }

    pub(crate) fn resize(&self, size: PtySize) {
        self.size.send_replace(size);
    }

    /// Sets a variable, if it is one that clients may set.
    pub(crate) fn set_variable(&mut self, name: &str, value: &str) -> bool {
        let Some(pending) = &mut self.pending else { return false };
        if !may_be_set(name)
            || value.len() > MAX_VALUE
            || value.contains('\0')
            || pending.environment.len() >= MAX_ENVIRONMENT
        {
            return false;
        }
        pending.environment.push((name.to_owned(), value.to_owned()));
        true
    }

    pub(crate) fn signal(&self, signal: &Sig) {
        // One too many is lost, as signals are.
        let _ = self.signals.try_send(signal_name(signal).to_owned());
    }

    /// Takes the channel to start something in it; `None` when that was done before.
    pub(crate) fn start(&mut self) -> Option<Pending> {
        self.pending.take()
    }

    /// The channel as long as nothing was started in it.
    pub(crate) fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }
}

/// The environment that clients may set: language and terminal, nothing that steers programs.
fn may_be_set(name: &str) -> bool {
    match name {
        "LANG" | "LANGUAGE" | "TERM" | "COLORTERM" => true,
        _ => name.strip_prefix("LC_").is_some_and(|rest| {
            (1..=32).contains(&rest.len())
                && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        }),
    }
}

/// A refusal to open a channel, in words of our own.
pub(crate) fn refusal(code: u32, reason: String) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code, reason }
}

fn signal_name(signal: &Sig) -> &str {
    match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    }
}

/// The library's word for a signal.
pub(crate) fn signal_of(name: &str) -> Sig {
    match name {
        "ABRT" => Sig::ABRT,
        "ALRM" => Sig::ALRM,
        "FPE" => Sig::FPE,
        "HUP" => Sig::HUP,
        "ILL" => Sig::ILL,
        "INT" => Sig::INT,
        "KILL" => Sig::KILL,
        "PIPE" => Sig::PIPE,
        "QUIT" => Sig::QUIT,
        "SEGV" => Sig::SEGV,
        "TERM" => Sig::TERM,
        "USR1" => Sig::USR1,
        other => Sig::Custom(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_language_and_terminal_variables_may_be_set() {
        for name in ["LANG", "LC_ALL", "TERM", "COLORTERM"] {
            assert!(may_be_set(name), "{name}");
        }
        for name in ["LD_PRELOAD", "PATH", "LC_", "LC_a b", "BASH_ENV", "", "lc_all"] {
            assert!(!may_be_set(name), "{name}");
        }
    }
}
