//! What is kept of a statement while its tokens pass.

use super::command::{self, Dml, Tag};
use super::lexer::Token;

/// Where in the statement the next token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// A command's first word is due.
    #[default]
    Start,
    /// Behind `EXPLAIN`, before what is explained.
    Explain,
    /// In the parentheses behind `EXPLAIN`.
    ExplainOptions,
    /// Behind a first word that leads to another command: `PREPARE … AS`, `DECLARE … FOR`.
    Until(&'static [u8]),
    /// In the first words.
    Head,
    /// Behind them.
    Body,
}

/// The most first words that a tag depends on.
const HEAD: usize = 8;

#[derive(Clone, Debug, Default)]
pub(super) struct Sketch<'a> {
    phase: Phase,
    head: [&'a [u8]; HEAD],
    head_len: usize,
    depth: usize,
    before: Option<Token<'a>>,
    explain: bool,
    analyze: bool,
    declare: bool,
    with: bool,
    dml: Dml,
    into: bool,
    locks: bool,
    as_query: bool,
    copy: Option<bool>,
    copy_to_client: bool,
    read_write: bool,
    read_only_setting: bool,
    set_config: bool,
    settings_table: bool,
    encoding: bool,
    unsafe_encoding: bool,
}

/// What a token was to the statement around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// A part.
    Part,
    /// The beginning of a function's body that consists of statements.
    Atomic,
}

/// What was found out about a statement.
pub(super) struct Found<'a> {
    pub(super) tag: Tag<'a>,
    pub(super) also: Dml,
    pub(super) writes: bool,
    pub(super) lifts_read_only: bool,
    pub(super) by_reset: bool,
    pub(super) unsafe_encoding: bool,
}

impl<'a> Sketch<'a> {
    /// Whether a semicolon would end the statement: in parentheses it would not.
    pub(super) fn is_level(&self) -> bool {
        self.depth == 0
    }

    /// Whether its only word is `END`.
    pub(super) fn is_end(&self) -> bool {
        self.head_len == 1 && self.first_is("end")
    }

    pub(super) fn note(&mut self, token: Token<'a>) -> Noted {
        let before = self.before.replace(token);
        match token {
            Token::Word(word) => return self.word(word, before),
            Token::Quoted { name, escaped } => {
                self.setting(name);
                // What it says could only be told by decoding it.
                self.read_only_setting |= escaped;
                self.set_config |= escaped || name.eq_ignore_ascii_case(b"set_config");
                self.encoding_value(name, escaped);
                self.leave_head();
            }
            Token::String(text) => {
                self.string(text);
                self.leave_head();
            }
            Token::Mark(b'(' | b'[') => {
                self.depth += 1;
                match self.phase {
                    // A query may stand in parentheses.
                    Phase::Start => {}
                    Phase::Explain => self.phase = Phase::ExplainOptions,
                    _ => self.leave_head(),
                }
            }
            Token::Mark(b')' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                if self.phase == Phase::ExplainOptions && self.depth == 0 {
                    self.phase = Phase::Explain;
                }
                self.leave_head();
            }
            Token::Number => {
                self.unsafe_encoding |= self.encoding;
                self.leave_head();
            }
            Token::Mark(_) => self.leave_head(),
        }
        Noted::Part
    }

    fn leave_head(&mut self) {
        match self.phase {
            Phase::Head => self.phase = Phase::Body,
            // Something that begins with no word is no statement that is known.
            Phase::Start => self.phase = Phase::Body,
            _ => {}
        }
    }

    fn word(&mut self, word: &'a [u8], before: Option<Token<'a>>) -> Noted {
        let mut buffer = [0_u8; 32];
        let lower = lower(word, &mut buffer);
        match self.phase {
            Phase::Start => self.start(word, lower),
            Phase::Explain => match lower {
                b"analyze" | b"analyse" => self.analyze = true,
                b"verbose" => {}
                _ => self.start(word, lower),
            },
            Phase::ExplainOptions => match lower {
                b"select" | b"with" | b"values" | b"table" if opens(before) => {
                    self.start(word, lower);
                }
                b"analyze" | b"analyse" => self.analyze = true,
                _ => {}
            },
            Phase::Until(end) if lower == end && self.depth == 0 => self.phase = Phase::Start,
            // A second word tells `PREPARE TRANSACTION` from the rest, if no command follows.
            Phase::Until(_) if self.head_len == 1 => self.push(word),
            Phase::Until(_) | Phase::Body => {}
            Phase::Head => self.push(word),
        }
        self.encoding_value(word, false);
        self.body(lower, before)
    }

    /// The first word of a command, the statement's own or one in it.
    fn start(&mut self, word: &'a [u8], lower: &[u8]) {
        self.head_len = 0;
        self.push(word);
        self.phase = match lower {
            b"explain" => {
                self.explain = true;
                Phase::Explain
            }
            b"prepare" => Phase::Until(b"as"),
            b"declare" => {
                self.declare = true;
                Phase::Until(b"for")
            }
            _ => Phase::Head,
        };
    }

    fn push(&mut self, word: &'a [u8]) {
        if let Some(place) = self.head.get_mut(self.head_len) {
            *place = word;
            self.head_len += 1;
        }
    }

    /// What any word can mean, wherever it stands.
    fn body(&mut self, lower: &[u8], before: Option<Token<'a>>) -> Noted {
        let after = |text: &str| matches!(before, Some(Token::Word(w)) if w.eq_ignore_ascii_case(text.as_bytes()));
        let level = self.depth == 0;
        match lower {
            b"with" => self.with = true,
            b"insert" => self.changes("INSERT", before),
            b"upsert" => self.changes("UPSERT", before),
            b"delete" => self.changes("DELETE", before),
            b"merge" => self.changes("MERGE", before),
            b"update" if after("for") => self.locks = true,
            b"update" => self.changes("UPDATE", before),
            b"no" | b"key" | b"share" if after("for") => self.locks = true,
            b"into" => self.into |= !(after("insert") || after("upsert") || after("merge")),
            b"as" if level => self.as_query = true,
            b"from" if level && self.copy.is_none() => self.copy = Some(true),
            b"to" if level && self.copy.is_none() => self.copy = Some(false),
            b"stdout" if after("to") => self.copy_to_client = true,
            b"write" if after("read") => self.read_write = true,
            b"set_config" => self.set_config = true,
            b"atomic" if level && after("begin") && self.is_routine() => return Noted::Atomic,
            _ => {}
        }
        self.setting(lower);
        Noted::Part
    }

    /// A word that changes rows where it is a command: at the beginning of what is in
    /// parentheses or brackets, behind `WITH`, or as a part of `MERGE` and `ON CONFLICT`.
    fn changes(&mut self, name: &'static str, before: Option<Token<'a>>) {
        let part = matches!(before, Some(Token::Word(word))
            if word.eq_ignore_ascii_case(b"then") || word.eq_ignore_ascii_case(b"do"));
        let other = matches!(before, Some(Token::Mark(b'.')))
            || matches!(before, Some(Token::Word(word)) if word.eq_ignore_ascii_case(b"on")
                || word.eq_ignore_ascii_case(b"key"));
        if part || opens(before) || (self.with && !other) {
            self.dml.add(name);
        }
    }

    fn setting(&mut self, name: &[u8]) {
        self.read_only_setting |= name.eq_ignore_ascii_case(b"default_transaction_read_only")
            || name.eq_ignore_ascii_case(b"transaction_read_only");
        // `SET NAMES`, and `SET LOCAL NAMES`.
        let names = name.eq_ignore_ascii_case(b"names") && matches!(self.head_len, 2 | 3);
        self.settings_table |= name.eq_ignore_ascii_case(b"pg_settings");
        if names || name.eq_ignore_ascii_case(b"client_encoding") {
            self.encoding = true;
        }
    }

    /// A string, which may be the value of a setting.
    fn string(&mut self, text: &[u8]) {
        match text.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'")) {
            Some(plain) => self.encoding_value(plain, plain.contains(&b'\'')),
            None => self.encoding_value(text, true),
        }
    }

    fn encoding_value(&mut self, value: &[u8], escaped: bool) {
        if self.encoding && !value.is_empty() {
            let passes = [&b"to"[..], b"names", b"client_encoding"];
            let word = passes.iter().any(|word| value.eq_ignore_ascii_case(word));
            self.unsafe_encoding |= escaped || !(word || command::is_safe_encoding(value));
        }
    }

    fn words(&self) -> &[&'a [u8]] {
        self.head.get(..self.head_len).unwrap_or_default()
    }

    fn first_is(&self, text: &str) -> bool {
        self.words().first().is_some_and(|first| first.eq_ignore_ascii_case(text.as_bytes()))
    }

    fn is_routine(&self) -> bool {
        command::tag(self.words())
            .is_some_and(|tag| tag.is("CREATE FUNCTION") || tag.is("CREATE PROCEDURE"))
    }

    pub(super) fn finish(self) -> Found<'a> {
        let head = command::tag(self.words()).unwrap_or(Tag::Word(b""));
        let is = |text: &str| head.is(text);
        let mut tag = head;
        let mut writes = !head.reads();
        if is("SELECT") {
            if let Some(most) = self.dml.names().next() {
                (tag, writes) = (Tag::known(most), true);
            } else if self.into {
                (tag, writes) = (Tag::known("SELECT INTO"), true);
            }
            writes |= self.locks;
        } else if is("COPY") {
            let from = self.copy != Some(false);
            tag = Tag::known(if from { "COPY FROM" } else { "COPY TO" });
            writes = from || !self.copy_to_client;
        } else if self.as_query && is("CREATE TABLE") {
            tag = Tag::known("CREATE TABLE AS");
        }
        let mut also = self.dml;
        writes |= also.names().next().is_some();
        if self.declare {
            tag = Tag::known("DECLARE CURSOR");
        }
        if self.explain && !self.analyze {
            // Nothing is carried out.
            (tag, writes, also) = (Tag::known("EXPLAIN"), false, Dml::default());
        }
        let set = is("SET") || is("BEGIN") || is("START TRANSACTION") || is("USE");
        let reset =
            (is("RESET") && (self.read_only_setting || self.resets_all())) || is("DISCARD ALL");
        let alter = matches!(head, Tag::Known { name, .. } if name.starts_with("ALTER"));
        let lifts =
            self.set_config || self.read_write && set || self.read_only_setting && (set || alter);
        Found {
            tag,
            also,
            writes,
            lifts_read_only: lifts || reset,
            by_reset: reset && !lifts,
            // To update `pg_settings` is to call `set_config`.
            unsafe_encoding: self.unsafe_encoding && (set || alter)
                || self.set_config
                || self.settings_table && writes,
        }
    }

    fn resets_all(&self) -> bool {
        self.words().get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"all"))
    }
}

/// Whether a token is a parenthesis or bracket that opens.
fn opens(before: Option<Token<'_>>) -> bool {
    matches!(before, Some(Token::Mark(b'(' | b'[')))
}

/// A word in lower case, or nothing if it is longer than any that counts.
fn lower<'b>(word: &[u8], buffer: &'b mut [u8; 32]) -> &'b [u8] {
    let Some(place) = buffer.get_mut(..word.len()) else { return &[] };
    for (to, from) in place.iter_mut().zip(word) {
        *to = from.to_ascii_lowercase();
    }
    place
}
