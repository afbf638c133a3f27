//! What the command-line tools print, and ask.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;
use zeroize::Zeroizing;

use crate::exit::Exit;
use crate::sanitise::{plain, plain_lines};

/// How lists are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Prints a text for people to standard output, without control characters: what comes from the
/// cluster must not steer a terminal. Whoever closed the pipe has read enough: no error.
///
/// # Errors
/// When it cannot be written.
pub fn print(text: &str) -> Result<(), Exit> {
    print_bytes(plain_lines(text).as_bytes())
}

/// Prints a text for programs, as it is, unless it goes to a terminal.
///
/// # Errors
/// When it cannot be written.
pub fn print_document(text: &str) -> Result<(), Exit> {
    print_bytes(document_for(text, io::stdout().is_terminal()).as_bytes())
}

fn document_for(text: &str, terminal: bool) -> Cow<'_, str> {
    if terminal { Cow::Owned(plain_lines(text)) } else { Cow::Borrowed(text) }
}

/// Prints bytes to standard output, as [`print()`] does.
///
/// # Errors
/// When they cannot be written.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Exit> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(err) => Err(Exit::failed(format!("cannot write: {err}"))),
        Ok(()) => Ok(()),
    }
}

/// Says something on standard error that is no error.
pub fn note(text: &str) {
    // A closed standard error has nobody behind it.
    let _ = writeln!(io::stderr(), "{}", plain_lines(text));
}

/// Prints a value as JSON or YAML; as JSON when text was asked for.
///
/// # Errors
/// When it cannot be written.
pub fn print_value(value: &impl Serialize, format: OutputFormat) -> Result<(), Exit> {
    match format {
        OutputFormat::Text | OutputFormat::Json => {
            let text = serde_json::to_string_pretty(value).map_err(Exit::failed)?;
            print_document(&format!("{text}\n"))
        }
        OutputFormat::Yaml => {
            print_document(&serde_saphyr::to_string(value).map_err(Exit::failed)?)
        }
    }
}

/// A table for people: columns as wide as their widest cell.
#[derive(Debug)]
pub struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these headings.
    pub fn new(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned)] }
    }

    /// Adds a row.
    pub fn row<S: AsRef<str>>(&mut self, cells: [S; N]) {
        self.rows.push(cells.map(|cell| plain(cell.as_ref())));
    }

    /// Prints it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(&self) -> Result<(), Exit> {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        print(&text)
    }
}

/// The longest secret that is read, in bytes.
const MAX_SECRET: usize = 4096;

/// Reads a secret: from the terminal without showing it, or one line of standard input when that
/// is no terminal.
///
/// # Errors
/// When there is nothing to read.
pub fn read_secret(prompt: &str) -> Result<Zeroizing<String>, Exit> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(|err| Exit::failed(format!("cannot read from the terminal: {err}")));
    }
    let mut line = Zeroizing::new(String::new());
    let mut input = io::stdin().lock();
    let read = io::Read::take(&mut input, MAX_SECRET as u64).read_line(&mut line);
    match read {
        Ok(0) => Err(Exit::usage("a secret is needed: give it on standard input")),
        Ok(_) => Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned())),
        Err(err) => Err(Exit::failed(format!("cannot read standard input: {err}"))),
    }
}

/// Reads a new secret: twice from a terminal, once from elsewhere.
///
/// # Errors
/// When there is nothing to read, or the two differ.
pub fn read_new_secret(prompt: &str) -> Result<Zeroizing<String>, Exit> {
    let secret = read_secret(prompt)?;
    if io::stdin().is_terminal() && *read_secret("Once more: ")? != *secret {
        return Err(Exit::usage("the two are not the same"));
    }
    Ok(secret)
}

/// Prints what `clap` has to say and gives the exit code: 0 for help that was asked for, 2 for a
/// wrong call.
pub fn usage(err: &clap::Error) -> std::process::ExitCode {
    // A closed pipe is no reason to panic.
    let _ = err.print();
    if err.use_stderr() { std::process::ExitCode::from(2) } else { std::process::ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_sequences_and_a_file_gets_everything() {
        let text = "name: \"\u{9b}2J\"\n";
        assert_eq!(document_for(text, false), text);
        assert_eq!(document_for(text, true), "name: \"\u{fffd}2J\"\n");
    }

    #[test]
    fn the_cells_of_a_table_stay_in_their_line() {
        let mut table = Table::new(["Name"]);
        table.row(["web\n\x1b[2J-1"]);
        assert_eq!(table.rows[1][0], "web\u{fffd}\u{fffd}[2J-1");
    }
}
