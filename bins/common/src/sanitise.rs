//! Text from elsewhere, made safe for a terminal.
//!
//! Names, labels and messages come from the cluster and its users, and recordings hold whatever a
//! program wrote. On a terminal, escape sequences in them could rewrite what was printed before,
//! set the title, fill the clipboard; characters that turn the direction of writing could make a
//! name look like another.

/// The text as one line, with every control character replaced.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The text with its lines and tabulators, and every other control character replaced.
pub fn plain_lines(text: &str) -> String {
    let keep = |c: char| matches!(c, '\n' | '\t') || !is_control(c);
    text.chars().map(|c| if keep(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// What a terminal obeys instead of showing it: C0, DEL, C1, and what turns the direction.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Takes what a program wrote to a terminal and leaves the text: lines and tabulators stay, escape
/// sequences and other control characters go. Sequences may be spread over several pieces.
///
/// A sequence that carries a text of its own (a title, say) ends with its line at the latest, so
/// that none can hide what follows.
#[derive(Clone, Debug, Default)]
pub struct Stripper {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence: parameters follow, and one final byte.
    Control,
    /// In a sequence that carries a text.
    Carrying,
    /// After an ESC in such a text, which a backslash ends.
    CarryingEscape,
}

impl Stripper {
    /// Takes the next piece, and gives what of it is text.
    pub fn push(&mut self, piece: &str) -> String {
        piece.chars().filter(|c| self.keeps(*c)).collect()
    }

    /// Whether a character is text.
    fn keeps(&mut self, c: char) -> bool {
        let (next, keep) = match (self.state, c) {
            // CAN and SUB end any sequence; so does a line.
            (_, '\x18' | '\x1a') => (State::Text, false),
            (_, '\n') => (State::Text, true),
            (State::Carrying, '\x1b') => (State::CarryingEscape, false),
            (State::Carrying, '\x07' | '\u{9c}') => (State::Text, false),
            (State::Carrying, _) => (State::Carrying, false),
            (State::CarryingEscape, '\\') => (State::Text, false),
            // Anything else after an ESC begins a sequence of its own.
            (_, '\x1b') => (State::Escape, false),
            (State::Escape | State::CarryingEscape, '[') | (_, '\u{9b}') => (State::Control, false),
            (State::Escape | State::CarryingEscape, ']' | 'P' | 'X' | '^' | '_')
            | (_, '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}') => (State::Carrying, false),
            (State::Escape | State::CarryingEscape, ' '..='/') => (State::Escape, false),
            (State::Escape | State::CarryingEscape, _) => (State::Text, false),
            (State::Control, ' '..='?') => (State::Control, false),
            // A control character within a control sequence is obeyed at once: none is kept.
            (State::Control, c) if is_control(c) => (State::Control, false),
            (State::Control, '@'..='~') => (State::Text, false),
            // What cannot be of a sequence ends it.
            (State::Control, c) => (State::Text, !is_control(c)),
            (State::Text, '\t') => (State::Text, true),
            (State::Text, c) => (State::Text, !is_control(c)),
        };
        self.state = next;
        keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let evil = "a\x1b]0;title\x07b\x1b[31mc\u{9b}2Jd\u{202e}e\r\x08\x7f\tf\ng";
        let one = plain(evil);
        assert!(one.chars().all(|c| !is_control(c)), "{one:?}");
        assert!(one.starts_with('a') && one.ends_with('g'));
        let lines = plain_lines(evil);
        assert!(lines.chars().all(|c| matches!(c, '\n' | '\t') || !is_control(c)), "{lines:?}");
        assert!(lines.ends_with("\tf\ng"), "{lines:?}");
        assert_eq!(plain("grüße, 世界 🦀"), "grüße, 世界 🦀");
    }

    #[test]
    fn sequences_go_and_the_text_stays() {
        for (written, text) in [
            ("plain\r\nlines\t.\n", "plain\nlines\t.\n"),
            ("\x1b[1;31mred\x1b[0m!", "red!"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]52;c;aGk=\x1b\\after", "after"),
            ("\x1bPdevice\x1b\\after", "after"),
            ("\u{9b}2Jafter\u{9d}0;t\u{9c}!", "after!"),
            ("\x1b(Bafter\x1b7\x1b=", "after"),
            ("\x1b]0;never ended\nnext line", "\nnext line"),
            ("\x1b]0;broken \x1b[31mred", "red"),
            ("a\x08b\x07\x7f", "ab"),
            ("\x1b[\u{e9}", "\u{e9}"),
        ] {
            assert_eq!(Stripper::default().push(written), text, "{written:?}");
        }
    }

    #[test]
    fn pieces_may_be_cut_anywhere() {
        let written = "a\x1b[1;31mred\x1b[0m \x1b]0;title\x1b\\b\u{9b}2Jc";
        let whole = Stripper::default().push(written);
        assert_eq!(whole, "ared bc");
        for (at, _) in written.char_indices() {
            let (first, second) = written.split_at(at);
            let mut stripper = Stripper::default();
            assert_eq!(stripper.push(first) + &stripper.push(second), whole, "cut at {at}");
        }
    }
}
