//! What was sent and waits for its answer, in order.

use std::collections::VecDeque;

use access_core::Timestamp;
use access_core::audit::{Parameters, Text};
use bytes::Bytes;

use crate::wire::Reported;

/// As many may wait before the server is asked to answer and the client is made to wait.
const MAX_WAITING: usize = 4096;
/// Room for so many is kept while none waits.
const KEPT: usize = 32;
/// As much text may wait to be told.
const MAX_UNTOLD: usize = 1024 * 1024;

/// Something that a client had run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A simple query, of one or several statements.
    Query { text: Text<65536> },
    /// A statement was prepared.
    Parse { name: Text<256>, text: Text<65536> },
    /// Values were bound to a prepared statement.
    Bind { portal: Text<256>, statement: Text<256>, parameters: Parameters },
    /// A portal was run; what had been bound to it, when that was sent just before.
    Execute { portal: Text<256>, max_rows: u32, bound: Option<Bound> },
    /// A prepared statement (`S`) or portal (`P`) was closed.
    Close { kind: u8, name: Text<256> },
    /// A function was called by the fast path.
    Call { function: u32, arguments: Parameters },
}

/// What is told of a Bind with the Execute that follows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) statement: Text<256>,
    pub(crate) parameters: Parameters,
}

impl What {
    /// About how much memory it takes.
    fn size(&self) -> usize {
        let values = |list: &Parameters| {
            list.iter().map(|value| value.map_or(0, str::len) + 24).sum::<usize>()
        };
        64 + match self {
            Self::Query { text } => text.as_str().len(),
            Self::Parse { name, text } => name.as_str().len() + text.as_str().len(),
            Self::Bind { portal, statement, parameters } => {
                portal.as_str().len() + statement.as_str().len() + values(parameters)
            }
            Self::Execute { portal, bound, .. } => {
                let bound = bound.as_ref();
                portal.as_str().len()
                    + bound.map_or(0, |b| b.statement.as_str().len() + values(&b.parameters))
            }
            Self::Close { name, .. } => name.as_str().len(),
            Self::Call { arguments, .. } => values(arguments),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Rows that were returned or changed; `None` when that does not apply.
    pub(crate) rows: Option<u64>,
    /// Rows that have passed since the last tag; added to the others at the end.
    pub(super) returned: u64,
    /// The command's tag, or those of several.
    pub(crate) tag: String,
    /// The error.
    pub(crate) error: Option<Reported>,
    /// Names of the columns of each result, if they are noted.
    pub(crate) columns: Vec<Vec<String>>,
    /// It was not run, because something before it in the same batch failed.
    pub(crate) skipped: bool,
    /// The error is from here: it was not run.
    pub(crate) refused: bool,
}

/// For the audit log: what was run, what came of it, or both.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    /// Counts what a session has run, from 1; both notes on the same thing have the same.
    pub(crate) number: u64,
    /// When it was sent.
    pub(crate) sent: Timestamp,
    /// What it was; `None` when an earlier note has told that.
    pub(crate) what: Option<What>,
    /// What came of it; `None` when a later note will tell that, or the session ended.
    pub(crate) outcome: Option<Outcome>,
}

/// Which answers end an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Query,
    Call,
    Sync,
    Parse,
    Bind,
    Describe,
    Execute,
    Close,
}

impl Kind {
    /// Whether ReadyForQuery ends it.
    pub(super) const fn ends_ready(self) -> bool {
        matches!(self, Self::Query | Self::Call | Self::Sync)
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// None for what leaves no note, or has left its last.
    number: Option<u64>,
    sent: Timestamp,
    what: Option<Box<What>>,
    told: bool,
    /// A Bind that is told with the Execute after it, or that Execute.
    joined: bool,
    /// The error that the client gets in the place of the server's.
    pub(super) refused: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Entry>,
    /// What has come of the first one so far.
    progress: Outcome,
    /// The first one has been answered in part.
    answered: bool,
    /// The server leaves out what comes, until Sync.
    skipping: bool,
    /// What was skipped since the last call, and about how much memory that takes.
    skipped: Vec<Note>,
    skipped_size: usize,
    numbered: u64,
    untold: usize,
    /// How many at the front have been told.
    told: usize,
    /// A Bind was answered, of which the Execute at the front or behind a Describe is to tell.
    owed: bool,
    /// The last thing that was executed, to which an error at Sync belongs.
    last: Option<(u64, Timestamp)>,
}

impl Queue {
    pub(super) fn push(
        &mut self,
        kind: Kind,
        what: Option<What>,
        refused: Option<Bytes>,
        now: Timestamp,
    ) {
        let mut what = what;
        let joined = self.join(what.as_mut());
        let number = what.is_some().then(|| {
            joined.unwrap_or_else(|| {
                self.numbered += 1;
                self.numbered
            })
        });
        if self.skipping {
            if kind != Kind::Sync {
                if let Some(number) = number {
                    if self.skipped.is_empty() {
                        self.skipped_size = 0;
                    }
                    self.skipped_size += what.as_ref().map_or(0, What::size);
                    let outcome = Some(Outcome { skipped: true, ..Outcome::default() });
                    self.skipped.push(Note { number, sent: now, what, outcome });
                }
                return;
            }
            self.skipping = false;
        }
        self.untold += what.as_ref().map_or(0, What::size);
        let (what, joined) = (what.map(Box::new), joined.is_some());
        self.waiting.push_back(Entry {
            kind,
            number,
            sent: now,
            what,
            told: false,
            joined,
            refused,
        });
    }

    /// Moves a Bind that nobody was told of into the Execute of its portal that follows it at once:
    /// most are run so, and one event then says all. Gives the Bind's number.
    fn join(&mut self, what: Option<&mut What>) -> Option<u64> {
        let Some(What::Execute { portal: run, bound, .. }) = what else { return None };
        let mut last = self.waiting.iter_mut().skip(self.told).rev();
        let entry = last.find(|entry| entry.kind != Kind::Describe)?;
        match entry.what.as_deref_mut() {
            Some(What::Bind { portal, .. }) if portal == run => {}
            _ => return None,
        }
        let Some(What::Bind { statement, parameters, .. }) = entry.what.take().map(|what| {
            self.untold -= what.size();
            *what
        }) else {
            return None;
        };
        *bound = Some(Bound { statement, parameters });
        entry.joined = true;
        entry.number.take()
    }

    pub(super) fn head(&self) -> Option<&Entry> {
        self.waiting.front()
    }

    /// The error that the client gets in the place of the server's, for the first one.
    pub(super) fn take_refusal(&mut self) -> Option<Bytes> {
        self.waiting.front_mut()?.refused.take()
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        self.waiting.front().map(|entry| entry.kind)
    }

    /// The first one is being answered: what has come of it so far may be changed.
    pub(super) fn progress(&mut self) -> &mut Outcome {
        self.answered = true;
        &mut self.progress
    }

    /// The first one is answered to its end.
    pub(super) fn complete(&mut self, notes: &mut Vec<Note>) {
        let outcome = self.take_outcome();
        self.answered = false;
        let Some(entry) = self.waiting.pop_front() else { return };
        if entry.joined {
            self.owed = entry.kind == Kind::Bind;
        }
        self.note(entry, Some(outcome), notes);
    }

    fn note(&mut self, entry: Entry, outcome: Option<Outcome>, notes: &mut Vec<Note>) {
        // What was skipped was sent before everything that waits.
        notes.append(&mut self.skipped);
        if entry.told {
            self.told -= 1;
        }
        let Entry { kind, number, sent, what, told, .. } = entry;
        let Some(number) = number else {
            // An error at Sync is that of a transaction which could not be ended.
            if let (Kind::Sync, Some((number, sent)), Some(outcome)) = (kind, self.last, outcome)
                && outcome.error.is_some()
            {
                notes.push(Note { number, sent, what: None, outcome: Some(outcome) });
            }
            return;
        };
        if kind == Kind::Execute {
            self.last = Some((number, sent));
        }
        self.untold -= what.as_ref().map_or(0, |what| what.size());
        let what = if told { None } else { what.map(|what| *what) };
        notes.push(Note { number, sent, what, outcome });
    }

    /// The first one has failed, and nothing but ReadyForQuery will follow: its outcome is known.
    pub(super) fn conclude(&mut self, notes: &mut Vec<Note>) {
        notes.append(&mut self.skipped);
        let outcome = self.take_outcome();
        let Some(entry) = self.waiting.front_mut() else { return };
        if let Some(number) = entry.number.take() {
            let (what, sent) = (entry.what.take(), entry.sent);
            self.untold -= what.as_ref().map_or(0, |what| what.size());
            if !std::mem::replace(&mut entry.told, true) {
                self.told += 1;
            }
            let what = what.map(|what| *what);
            notes.push(Note { number, sent, what, outcome: Some(outcome) });
        } else if entry.kind == Kind::Sync {
            self.progress = outcome;
        }
    }

    /// What has come of the first one, with the rows that no tag has counted.
    fn take_outcome(&mut self) -> Outcome {
        let mut outcome = std::mem::take(&mut self.progress);
        if outcome.returned > 0 {
            outcome.rows = Some(outcome.rows.unwrap_or(0).saturating_add(outcome.returned));
            outcome.returned = 0;
        }
        outcome
    }

    /// The first one failed, outside of a simple query: the server skips all until Sync.
    pub(super) fn fail(&mut self, notes: &mut Vec<Note>) {
        // The error of a Bind is told with the Execute that tells of it.
        let bind = self.waiting.front().is_some_and(|head| head.joined && head.kind == Kind::Bind);
        let mut of_bind = if bind { Some(self.progress.clone()) } else { None };
        self.complete(notes);
        self.owed = false;
        while let Some(entry) = self.waiting.pop_front_if(|entry| entry.kind != Kind::Sync) {
            let skipped = Outcome { skipped: true, ..Outcome::default() };
            let outcome = of_bind.take_if(|_| entry.joined).unwrap_or(skipped);
            self.note(entry, Some(outcome), notes);
        }
        self.skipping = self.waiting.is_empty();
    }

    /// ReadyForQuery: everything up to the first one that ends with it is over.
    pub(super) fn ready(&mut self, notes: &mut Vec<Note>) {
        if !self.waiting.iter().any(|entry| entry.kind.ends_ready()) {
            return;
        }
        while let Some(kind) = self.kind() {
            self.complete(notes);
            if kind.ends_ready() {
                break;
            }
        }
    }

    /// The first one copies in: the server takes no Sync that was sent before the copy's end.
    pub(super) fn copies_in(&mut self) {
        if self.kind() != Some(Kind::Execute) {
            return;
        }
        while self.waiting.get(1).is_some_and(|entry| entry.kind == Kind::Sync) {
            let Some(entry) = self.waiting.remove(1) else { break };
            if entry.told {
                self.told -= 1;
            }
        }
    }

    /// At the end of a call: what is answered in part, and what was skipped, is told now.
    pub(super) fn settle(&mut self, notes: &mut Vec<Note>) {
        if self.answered && self.told == 0 {
            self.tell(0, notes);
        }
        if std::mem::take(&mut self.owed)
            && let Some(run) = self.waiting.iter().position(|entry| entry.joined)
        {
            for at in self.told..=run {
                self.tell(at, notes);
            }
        }
        notes.append(&mut self.skipped);
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT {
            self.waiting = VecDeque::new();
        }
    }

    fn tell(&mut self, at: usize, notes: &mut Vec<Note>) {
        notes.append(&mut self.skipped);
        let Some(entry) = self.waiting.get_mut(at) else { return };
        if entry.told {
            return;
        }
        entry.told = true;
        self.told += 1;
        let (what, sent) = (entry.what.take(), entry.sent);
        if let (Some(number), Some(what)) = (entry.number, what) {
            self.untold -= what.size();
            notes.push(Note { number, sent, what: Some(*what), outcome: None });
        }
    }

    pub(super) fn tell_all(&mut self, notes: &mut Vec<Note>) {
        for at in self.told..self.waiting.len() {
            self.tell(at, notes);
        }
        notes.append(&mut self.skipped);
    }

    pub(super) fn oldest_untold(&self) -> Option<Timestamp> {
        match self.skipped.first() {
            Some(note) => Some(note.sent),
            None => self.waiting.get(self.told).map(|entry| entry.sent),
        }
    }

    pub(super) fn wants_telling(&self) -> bool {
        let skipped = self.skipped.len() > MAX_WAITING || self.skipped_size > MAX_UNTOLD;
        self.untold > MAX_UNTOLD || (skipped && !self.skipped.is_empty())
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) const fn numbered(&self) -> u64 {
        self.numbered
    }
}
