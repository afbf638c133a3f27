//! Tokens.
//! <https://www.postgresql.org/docs/current/sql-syntax-lexical.html>

/// A part of a text; what is between tokens is space and comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A key word or an identifier without quotes.
    Word(&'a [u8]),
    /// An identifier in quotes, without them; `escaped` if it is `U&"…"`.
    Quoted { name: &'a [u8], escaped: bool },
    /// A string of any form, with its quotes.
    String(&'a [u8]),
    /// A number or a parameter.
    Number,
    /// Anything else, one byte.
    Mark(u8),
}

/// Reads tokens off a text.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    /// Whether backslashes escape in plain strings.
    escaping: bool,
    /// Whether a plain string had a backslash, so that this matters.
    pub(super) ambiguous: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8], escaping: bool) -> Self {
        Self { text, at: 0, escaping, ambiguous: false }
    }

    /// Where the next token is looked for.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn text(&self) -> &'a [u8] {
        self.text
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The next token and where it begins.
    pub(super) fn next(&mut self) -> Option<(usize, Token<'a>)> {
        self.skip_space();
        let start = self.at;
        let first = self.peek(0)?;
        let token = match first {
            b'\'' => self.string(start, self.escaping, true),
            b'"' => self.quoted(false),
            b'$' => self.dollar(start),
            b'0'..=b'9' => self.number(),
            _ if is_word_start(first) => match self.prefixed(first, start) {
                Some(token) => token,
                None => self.word(start),
            },
            _ => {
                self.at += 1;
                Token::Mark(first)
            }
        };
        Some((start, token))
    }

    /// A string or identifier whose quotes have letters before them.
    fn prefixed(&mut self, first: u8, start: usize) -> Option<Token<'a>> {
        match (first, self.peek(1)?) {
            (b'e' | b'E', b'\'') => {
                self.at += 1;
                Some(self.string(start, true, false))
            }
            (b'x' | b'X', b'\'') => {
                self.at += 1;
                Some(self.string(start, false, false))
            }
            // National characters are a plain string. Bits have no escapes in PostgreSQL, where
            // a backslash in them is an error, and have some in CockroachDB: so both are read.
            (b'n' | b'N' | b'b' | b'B', b'\'') => {
                self.at += 1;
                Some(self.string(start, self.escaping, true))
            }
            (b'u' | b'U', b'&') => match self.peek(2)? {
                b'\'' => {
                    self.at += 2;
                    // Not allowed when backslashes escape, so that one reading will do.
                    Some(self.string(start, false, false))
                }
                b'"' => {
                    self.at += 2;
                    Some(self.quoted(true))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// From the opening quote on, with the parts that go on in later lines.
    fn string(&mut self, start: usize, escapes: bool, plain: bool) -> Token<'a> {
        loop {
            self.at += 1;
            self.string_part(escapes, plain);
            let end = self.at;
            if !(self.skip_to_next_line() && self.peek(0) == Some(b'\'')) {
                self.at = end;
                return Token::String(self.since(start));
            }
        }
    }

    /// To behind the closing quote.
    fn string_part(&mut self, escapes: bool, plain: bool) {
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'\\' => {
                    self.ambiguous |= plain;
                    if escapes {
                        self.at = (self.at + 1).min(self.text.len());
                    }
                }
                b'\'' if self.peek(0) == Some(b'\'') => self.at += 1,
                b'\'' => return,
                _ => {}
            }
        }
    }

    /// Over spaces and comments to the end of a line, and further spaces and comments: what may be
    /// between the parts of one string. Says whether there was such an end.
    fn skip_to_next_line(&mut self) -> bool {
        let mut newline = false;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\n' | b'\r' => newline = true,
                _ if is_space(byte) => {}
                b'-' if self.peek(1) == Some(b'-') => {
                    self.skip_line();
                    continue;
                }
                _ => break,
            }
            self.at += 1;
        }
        newline
    }

    fn quoted(&mut self, escaped: bool) -> Token<'a> {
        self.at += 1;
        let start = self.at;
        while let Some(byte) = self.peek(0) {
            if byte == b'"' {
                if self.peek(1) != Some(b'"') {
                    let name = self.since(start);
                    self.at += 1;
                    return Token::Quoted { name, escaped };
                }
                self.at += 1;
            }
            self.at += 1;
        }
        Token::Quoted { name: self.since(start), escaped }
    }

    /// `$1`, `$$…$$`, `$tag$…$tag$`, or a lone dollar.
    fn dollar(&mut self, start: usize) -> Token<'a> {
        self.at += 1;
        if self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            return self.number();
        }
        let mut end = self.at;
        if self.text.get(end).is_some_and(|byte| is_word_start(*byte)) {
            while self.text.get(end).is_some_and(|byte| is_word_part(*byte) && *byte != b'$') {
                end += 1;
            }
        }
        if self.text.get(end) != Some(&b'$') {
            return Token::Mark(b'$');
        }
        let mark = self.text.get(start..=end).unwrap_or_default();
        self.at = end + 1;
        // A mark has dollars at its ends only, so that no byte is compared more than twice.
        while let Some(byte) = self.peek(0) {
            if byte == b'$' && self.text.get(self.at..).is_some_and(|rest| rest.starts_with(mark)) {
                self.at += mark.len();
                break;
            }
            self.at += 1;
        }
        Token::String(self.since(start))
    }

    fn number(&mut self) -> Token<'a> {
        while self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Token::Number
    }

    fn word(&mut self, start: usize) -> Token<'a> {
        while self.peek(0).is_some_and(is_word_part) {
            self.at += 1;
        }
        Token::Word(self.since(start))
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek(0) {
            match byte {
                _ if is_space(byte) => self.at += 1,
                b'-' if self.peek(1) == Some(b'-') => self.skip_line(),
                b'/' if self.peek(1) == Some(b'*') => self.skip_block(),
                _ => return,
            }
        }
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|byte| !matches!(byte, b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Comments of this kind nest.
    fn skip_block(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth = depth.saturating_sub(1);
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

const fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}
