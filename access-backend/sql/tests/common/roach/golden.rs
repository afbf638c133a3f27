//! What may be said: the golden file of statements.

use std::sync::LazyLock;

const FILE: &str = include_str!("../../golden/cockroachdb.sql");

/// Searches are put together of parts; the file has examples of them.
const SEARCHES: [&str; 2] = [
    "SELECT writer, seq, time, name, \"user\", json FROM events ",
    "SELECT writer, last_seq, body, ",
];

static KNOWN: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut known = Vec::new();
    for entry in FILE.split("\n-- ").skip(1) {
        let text = entry.split_once('\n').unwrap().1;
        known.push(plain(text));
        known.extend(text.split(';').map(plain).filter(|part| !part.is_empty()));
    }
    known
});

/// Whether the file has the text, where names stand in its places.
pub(super) fn has(text: &str) -> bool {
    let text = plain(text);
    SEARCHES.iter().any(|start| text.starts_with(start))
        || KNOWN.iter().any(|known| is_made_of(known, &text))
}

fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches(';').to_owned()
}

/// Whether `text` is `known` with something in each of its places, which are in braces.
fn is_made_of(known: &str, text: &str) -> bool {
    let mut parts = known.split('{');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut ends = !known.contains('{');
    for part in parts {
        let after = part.split_once('}').map_or("", |(_, after)| after);
        let Some(at) = rest.find(after) else { return false };
        rest = &rest[at + after.len()..];
        ends = after.is_empty();
    }
    ends || rest.is_empty()
}
