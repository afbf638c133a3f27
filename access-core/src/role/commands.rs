//! Commands of database statements, as roles name them.

use std::sync::Arc;

/// A list of commands: `DROP TABLE`, or `DROP` for all that begin so.
///
/// Clones are cheap: they are the same list.
///
/// ```
/// use access_core::role::CommandList;
/// let list = CommandList::compile(&["drop".to_owned(), "Copy  From".to_owned()])?;
/// assert_eq!(list.find("DROP TABLE"), Some("DROP"));
/// assert_eq!(list.find("COPY FROM"), Some("COPY FROM"));
/// assert_eq!(list.find("COPY TO"), None);
/// # Ok::<(), access_core::role::CommandError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandList(Option<Arc<[Box<str>]>>);

/// A text that names no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no command: write its words, such as DROP or \"COPY FROM\"")]
pub struct CommandError(String);

impl CommandList {
    /// The longest command in bytes.
    pub const MAX_LEN: usize = 64;

    /// What stands in the place of a command for a statement, or a part of one, that was not read:
    /// it can be any.
    pub const UNREAD: &str = "UNKNOWN";

    /// Compiles a list.
    ///
    /// # Errors
    /// [`CommandError`] of the first text that names no command.
    pub fn compile(commands: &[String]) -> Result<Self, CommandError> {
        let mut list = commands.iter().map(|text| normal(text)).collect::<Result<Vec<_>, _>>()?;
        list.sort();
        list.dedup();
        Ok(Self((!list.is_empty()).then(|| list.into())))
    }

    /// Whether it names none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The commands, in upper case and in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|list| list.iter()).map(|command| &**command)
    }

    /// What of the list covers a command: its own words, or the first of them.
    pub fn find(&self, command: &str) -> Option<&str> {
        self.iter().find(|listed| covers(listed, command))
    }

    /// Whether statements of a command are forbidden. What was not read ([`CommandList::UNREAD`])
    /// is, as soon as the list names anything.
    pub fn forbids(&self, command: &str) -> bool {
        self.find(command).is_some() || (command == Self::UNREAD && !self.is_empty())
    }

    /// What either has.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (&self.0, &other.0) {
            (_, None) => self.clone(),
            (None, _) => other.clone(),
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => self.clone(),
            (Some(a), Some(b)) => {
                let mut list: Vec<Box<str>> = a.iter().chain(b.iter()).cloned().collect();
                list.sort();
                list.dedup();
                Self(Some(list.into()))
            }
        }
    }
}

/// Whether `command` is `listed` or begins with its words.
fn covers(listed: &str, command: &str) -> bool {
    let (listed, command) = (listed.as_bytes(), command.as_bytes());
    command.get(..listed.len()).is_some_and(|first| first.eq_ignore_ascii_case(listed))
        && matches!(command.get(listed.len()), None | Some(b' '))
}

/// The words in upper case, one space between them.
fn normal(text: &str) -> Result<Box<str>, CommandError> {
    let is_word = |word: &str| word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if words.is_empty()
        || text.len() > CommandList::MAX_LEN
        || !words.iter().all(|word| is_word(word))
    {
        return Err(CommandError(text.chars().take(CommandList::MAX_LEN).collect()));
    }
    Ok(words.join(" ").to_ascii_uppercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(commands: &[&str]) -> Result<CommandList, CommandError> {
        let commands: Vec<String> = commands.iter().map(|text| (*text).to_owned()).collect();
        CommandList::compile(&commands)
    }

    #[test]
    fn words_count_and_not_letters() {
        let denied = list(&["drop", "Create  Table", "CREATE TABLE"]).unwrap();
        assert_eq!(denied.iter().collect::<Vec<_>>(), ["CREATE TABLE", "DROP"]);
        for covered in ["DROP", "DROP TABLE", "drop owned", "CREATE TABLE", "CREATE TABLE AS"] {
            assert!(denied.find(covered).is_some(), "{covered}");
        }
        for free in ["", "DROPS", "CREATE", "CREATE TABLESPACE", "CREATE VIEW", "SELECT"] {
            assert_eq!(denied.find(free), None, "{free}");
        }
        assert_eq!(list(&[]).unwrap().find("DROP"), None);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for bad in ["", " ", "*", "DROP *", "DROP;", "^DROP$", &"A".repeat(65)] {
            assert!(list(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_union_has_what_either_has() {
        let (a, b) = (list(&["DROP", "COPY"]).unwrap(), list(&["COPY", "ALTER"]).unwrap());
        assert_eq!(a.union(&b).iter().collect::<Vec<_>>(), ["ALTER", "COPY", "DROP"]);
        let none = CommandList::default();
        assert_eq!((a.union(&none), none.union(&a)), (a.clone(), a.clone()));
        assert!(none.is_empty() && !a.is_empty());
    }
}
