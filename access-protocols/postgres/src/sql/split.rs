//! Statement by statement.

use super::Statement;
use super::lexer::{Lexer, Token};
use super::sketch::{Noted, Sketch};

/// The statements of a text; see [`statements`](super::statements).
#[derive(Clone, Debug)]
pub struct Statements<'a> {
    lexer: Lexer<'a>,
    /// How many `BEGIN ATOMIC` and `CASE` wait for their `END`.
    blocks: usize,
    alternative: bool,
}

impl<'a> Statements<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { lexer: Lexer::new(text, false), blocks: 0, alternative: false }
    }

    /// The next statement of this reading.
    fn read(&mut self) -> Option<Statement<'a>> {
        loop {
            let nested = self.blocks > 0;
            let mut sketch = Sketch::default();
            let mut span = None;
            let mut only_end = nested;
            let mut label = false;
            let over = loop {
                let Some((start, token)) = self.lexer.next() else { break true };
                if token == Token::Mark(b';') && sketch.is_level() {
                    break false;
                }
                span = Some((span.map_or(start, |(first, _)| first), self.lexer.at()));
                let noted = sketch.note(token);
                only_end &= sketch.is_end();
                self.count_blocks(token, label);
                label = is_label_next(token);
                if noted == Noted::Atomic && !nested {
                    self.blocks = 1;
                    break false;
                }
            };
            match span {
                Some((start, end)) if !only_end => {
                    let text = self.lexer.text().get(start..end).unwrap_or_default();
                    return Some(self.statement(sketch, text, nested));
                }
                _ if over => return None,
                _ => {}
            }
        }
    }

    /// In a function's body, semicolons end its statements until its own `END`. The count can
    /// be led astray by a column that is called `case`; what is in the body is given as
    /// statements for that reason too.
    fn count_blocks(&mut self, token: Token<'_>, label: bool) {
        if let (Token::Word(word), false, 1..) = (token, label, self.blocks) {
            if word.eq_ignore_ascii_case(b"case") {
                self.blocks += 1;
            } else if word.eq_ignore_ascii_case(b"end") {
                self.blocks -= 1;
            }
        }
    }

    fn statement(&self, sketch: Sketch<'a>, text: &'a [u8], nested: bool) -> Statement<'a> {
        let found = sketch.finish();
        Statement {
            text,
            writes: found.writes,
            lifts_read_only: found.lifts_read_only,
            by_reset: found.by_reset,
            unsafe_encoding: found.unsafe_encoding,
            nested,
            alternative: self.alternative,
            command: found.tag,
            also: found.also,
        }
    }
}

impl<'a> Iterator for Statements<'a> {
    type Item = Statement<'a>;

    fn next(&mut self) -> Option<Statement<'a>> {
        loop {
            if let Some(statement) = self.read() {
                return Some(statement);
            }
            if !self.lexer.ambiguous || self.alternative {
                return None;
            }
            self.lexer = Lexer::new(self.lexer.text(), true);
            self.blocks = 0;
            self.alternative = true;
        }
    }
}

impl std::iter::FusedIterator for Statements<'_> {}

/// Whether a word behind a token is a name, whatever it says.
fn is_label_next(token: Token<'_>) -> bool {
    matches!(token, Token::Mark(b'.'))
        || matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(b"as"))
}
