//! The names of what statements carry out.

use std::borrow::Cow;

use access_core::role::CommandList;

/// What a statement carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag<'a> {
    /// One that is known, and another name that people may know it by.
    Known { name: &'static str, alias: Option<&'static str> },
    /// Its first word, which is not known.
    Word(&'a [u8]),
}

impl<'a> Tag<'a> {
    pub(super) const fn known(name: &'static str) -> Self {
        Self::Known { name, alias: None }
    }

    pub(super) fn name(self) -> Cow<'static, str> {
        match self {
            Self::Known { name, .. } => Cow::Borrowed(name),
            Self::Word(word) => match std::str::from_utf8(word) {
                Ok(word) if word.len() <= 32 && word.is_ascii() && !word.is_empty() => {
                    Cow::Owned(word.to_ascii_uppercase())
                }
                _ => Cow::Borrowed(CommandList::UNREAD),
            },
        }
    }

    pub(super) fn alias(self) -> Option<&'static str> {
        match self {
            Self::Known { alias, .. } => alias,
            Self::Word(_) => None,
        }
    }

    pub(super) fn is(self, text: &str) -> bool {
        matches!(self, Self::Known { name, .. } if name == text)
    }

    /// Whether it only reads, unless something else in the statement says otherwise.
    pub(super) fn reads(self) -> bool {
        matches!(self, Self::Known { name, .. } if READING.contains(&name))
    }
}

/// Commands that change nothing outside their session.
const READING: [&str; 28] = [
    "SELECT",
    "SHOW",
    "EXPLAIN",
    "FETCH",
    "MOVE",
    "DECLARE CURSOR",
    "CLOSE CURSOR",
    "COPY TO",
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "SET",
    "SET CONSTRAINTS",
    "RESET",
    "USE",
    "LISTEN",
    "UNLISTEN",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "DISCARD",
    "DISCARD ALL",
    "DISCARD PLANS",
    "DISCARD TEMP",
    "DISCARD SEQUENCES",
];

/// Statements that change rows, of which one text of a statement can have several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dml(u8);

impl Dml {
    const NAMES: [&'static str; 5] = ["MERGE", "DELETE", "UPDATE", "UPSERT", "INSERT"];

    pub(super) fn add(&mut self, name: &str) {
        if let Some(bit) = Self::NAMES.iter().position(|known| *known == name) {
            self.0 |= 1 << bit;
        }
    }

    /// Those in it, what writes most first.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        (0_u8..).zip(Self::NAMES).filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, n)| n)
    }
}

/// The words of a statement that name what it carries out.
pub(super) type Head<'h, 'a> = &'h [&'a [u8]];

/// The tag of the first words of a statement. What depends on the rest is the sketch's.
pub(super) fn tag<'a>(head: Head<'_, 'a>) -> Option<Tag<'a>> {
    let (first, rest) = head.split_first()?;
    let second = rest.first().copied().unwrap_or_default();
    let is = |word: &[u8], text: &str| word.eq_ignore_ascii_case(text.as_bytes());
    for (word, next, name) in BY_WORDS {
        if is(first, word) && (next.is_empty() || is(second, next)) {
            return Some(Tag::known(name));
        }
    }
    let verb = VERBS.iter().position(|verb| is(first, verb));
    Some(verb.map_or(Tag::Word(first), |verb| object(verb, rest)))
}

const VERBS: [&str; 3] = ["CREATE", "ALTER", "DROP"];

/// `CREATE`, `ALTER` or `DROP`, with the kind of what it is done to.
fn object<'a>(verb: usize, rest: Head<'_, 'a>) -> Tag<'a> {
    let adjective = |word: &&[u8]| ADJECTIVES.iter().any(|a| word.eq_ignore_ascii_case(a));
    let from = rest.iter().position(|word| !adjective(word)).unwrap_or(rest.len());
    let rest = rest.get(from..).unwrap_or_default();
    for (kind, names, aliases) in OBJECTS {
        let mut words = kind.split(' ').zip(rest.iter().map(Some).chain(std::iter::repeat(None)));
        if words.all(|(text, word)| word.is_some_and(|w| w.eq_ignore_ascii_case(text.as_bytes()))) {
            let name = names.get(verb).copied().unwrap_or_default();
            let alias = aliases.get(verb).copied().filter(|alias| *alias != name);
            return Tag::Known { name, alias };
        }
    }
    Tag::known(VERBS.get(verb).copied().unwrap_or_default())
}

/// What can be between `CREATE` and the kind.
const ADJECTIVES: [&[u8]; 12] = [
    b"or",
    b"replace",
    b"global",
    b"local",
    b"temp",
    b"temporary",
    b"unlogged",
    b"unique",
    b"recursive",
    b"trusted",
    b"procedural",
    b"constraint",
];

macro_rules! objects {
    ($($words:literal $(is $tag:literal)?,)*) => {
        /// Kinds of objects, the longer names first; the tag of each verb, and the same with the
        /// words that were written.
        const OBJECTS: &[(&str, [&str; 3], [&str; 3])] = &[$(
            objects!(@row $words $(is $tag)?),
        )*];
    };
    (@row $words:literal) => { objects!(@row $words is $words) };
    (@row $words:literal is $tag:literal) => {(
        $words,
        [concat!("CREATE ", $tag), concat!("ALTER ", $tag), concat!("DROP ", $tag)],
        [concat!("CREATE ", $words), concat!("ALTER ", $words), concat!("DROP ", $words)],
    )};
}

objects! {
    "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE", "FOREIGN DATA WRAPPER", "FOREIGN TABLE", "MATERIALIZED VIEW",
    "OPERATOR CLASS", "OPERATOR FAMILY", "DEFAULT PRIVILEGES", "DEFAULT CONVERSION" is "CONVERSION",
    "EVENT TRIGGER", "ACCESS METHOD", "LARGE OBJECT", "USER MAPPING",
    "TABLE", "VIEW", "INDEX", "SEQUENCE", "FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE", "TYPE",
    "DOMAIN", "SCHEMA", "DATABASE", "ROLE", "USER" is "ROLE", "GROUP" is "ROLE", "TABLESPACE",
    "TRIGGER", "RULE", "POLICY", "EXTENSION", "LANGUAGE", "CAST", "COLLATION", "CONVERSION",
    "OPERATOR", "SERVER", "PUBLICATION", "SUBSCRIPTION", "STATISTICS", "TRANSFORM", "SYSTEM",
    "OWNED",
    // CockroachDB.
    "CHANGEFEED", "SCHEDULE", "STATS" is "STATISTICS", "EXTERNAL CONNECTION", "TENANT",
    "VIRTUAL CLUSTER", "RANGE", "PARTITION", "BACKUP",
}

/// First word, second word if it matters, tag. The first that fits counts.
const BY_WORDS: &[(&str, &str, &str)] = &[
    ("SELECT", "", "SELECT"),
    ("VALUES", "", "SELECT"),
    ("TABLE", "", "SELECT"),
    ("WITH", "", "SELECT"),
    ("INSERT", "", "INSERT"),
    ("UPDATE", "", "UPDATE"),
    ("DELETE", "", "DELETE"),
    ("BEGIN", "", "BEGIN"),
    ("COMMIT", "PREPARED", "COMMIT PREPARED"),
    ("COMMIT", "", "COMMIT"),
    ("END", "", "COMMIT"),
    ("ROLLBACK", "PREPARED", "ROLLBACK PREPARED"),
    ("ROLLBACK", "", "ROLLBACK"),
    ("ABORT", "", "ROLLBACK"),
    ("START", "TRANSACTION", "START TRANSACTION"),
    ("SET", "CONSTRAINTS", "SET CONSTRAINTS"),
    // CockroachDB; these are no settings of the session.
    ("SET", "CLUSTER", "SET CLUSTER SETTING"),
    ("RESET", "CLUSTER", "RESET CLUSTER SETTING"),
    ("SET", "", "SET"),
    ("SHOW", "", "SHOW"),
    ("COPY", "", "COPY"),
    ("EXPLAIN", "", "EXPLAIN"),
    ("EXECUTE", "", "EXECUTE"),
    ("PREPARE", "TRANSACTION", "PREPARE TRANSACTION"),
    ("PREPARE", "", "PREPARE"),
    ("DEALLOCATE", "", "DEALLOCATE"),
    ("FETCH", "", "FETCH"),
    ("MOVE", "", "MOVE"),
    ("DECLARE", "", "DECLARE CURSOR"),
    ("CLOSE", "", "CLOSE CURSOR"),
    ("SAVEPOINT", "", "SAVEPOINT"),
    ("RELEASE", "", "RELEASE"),
    ("RESET", "", "RESET"),
    ("DISCARD", "ALL", "DISCARD ALL"),
    ("DISCARD", "PLANS", "DISCARD PLANS"),
    ("DISCARD", "TEMP", "DISCARD TEMP"),
    ("DISCARD", "TEMPORARY", "DISCARD TEMP"),
    ("DISCARD", "SEQUENCES", "DISCARD SEQUENCES"),
    ("DISCARD", "", "DISCARD"),
    ("LISTEN", "", "LISTEN"),
    ("UNLISTEN", "", "UNLISTEN"),
    ("NOTIFY", "", "NOTIFY"),
    ("LOCK", "", "LOCK TABLE"),
    ("MERGE", "", "MERGE"),
    ("UPSERT", "", "UPSERT"),
    ("TRUNCATE", "", "TRUNCATE TABLE"),
    ("DO", "", "DO"),
    ("CALL", "", "CALL"),
    ("GRANT", "", "GRANT"),
    ("REVOKE", "", "REVOKE"),
    ("COMMENT", "", "COMMENT"),
    ("ANALYZE", "", "ANALYZE"),
    ("ANALYSE", "", "ANALYZE"),
    ("VACUUM", "", "VACUUM"),
    ("CLUSTER", "", "CLUSTER"),
    ("REINDEX", "", "REINDEX"),
    ("CHECKPOINT", "", "CHECKPOINT"),
    ("LOAD", "", "LOAD"),
    ("REFRESH", "", "REFRESH MATERIALIZED VIEW"),
    ("REASSIGN", "", "REASSIGN OWNED"),
    ("SECURITY", "", "SECURITY LABEL"),
    ("IMPORT", "FOREIGN", "IMPORT FOREIGN SCHEMA"),
    // CockroachDB.
    ("USE", "", "USE"),
    ("IMPORT", "", "IMPORT"),
    ("EXPORT", "", "EXPORT"),
    ("BACKUP", "", "BACKUP"),
    ("RESTORE", "", "RESTORE"),
    ("CANCEL", "", "CANCEL"),
    ("PAUSE", "", "PAUSE"),
    ("RESUME", "", "RESUME"),
];

/// Whether no character of an encoding has an ASCII byte in it beside the ASCII ones.
pub(super) fn is_safe_encoding(name: &[u8]) -> bool {
    let mut plain = [0_u8; 16];
    let mut len = 0;
    // The server looks at letters and digits only.
    for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        let Some(to) = plain.get_mut(len) else { return false };
        *to = byte.to_ascii_lowercase();
        len += 1;
    }
    let plain = plain.get(..len).unwrap_or_default();
    SAFE_ENCODINGS.contains(&plain)
}

const SAFE_ENCODINGS: &[&[u8]] = &[
    b"utf8",
    b"unicode",
    b"sqlascii",
    b"default",
    b"auto",
    b"latin1",
    b"latin2",
    b"latin3",
    b"latin4",
    b"latin5",
    b"latin6",
    b"latin7",
    b"latin8",
    b"latin9",
    b"latin10",
    b"iso88591",
    b"iso88592",
    b"iso88593",
    b"iso88594",
    b"iso88595",
    b"iso88596",
    b"iso88597",
    b"iso88598",
    b"iso88599",
    b"iso885910",
    b"iso885913",
    b"iso885914",
    b"iso885915",
    b"iso885916",
    b"win1250",
    b"win1251",
    b"win1252",
    b"win1253",
    b"win1254",
    b"win1255",
    b"win1256",
    b"win1257",
    b"win1258",
    b"win866",
    b"win874",
    b"windows1250",
    b"windows1251",
    b"windows1252",
    b"windows1253",
    b"windows1254",
    b"windows1255",
    b"windows1256",
    b"windows1257",
    b"windows1258",
    b"windows866",
    b"windows874",
    b"koi8",
    b"koi8r",
    b"koi8u",
    b"eucjp",
    b"euckr",
    b"euccn",
    b"euctw",
    b"eucjis2004",
];
