//! Patterns and templates.

use crate::identity::Traits;
use crate::labels::{Case, Pattern};
use crate::role::{INTERNAL_TRAITS, Match, TraitView, ValuePattern};

/// The first line is a pattern, the second what is held against it, and each further one a trait,
/// `NAME=VALUE`. What a pattern says of itself is true, globs match what their definition says,
/// ignoring case never matches less, and what a template stands for fits it.
///
/// # Panics
/// When that does not hold.
pub fn pattern(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let written = lines.next().unwrap_or_default();
    let subject = lines.next().unwrap_or_default();
    let traits = traits(lines);
    for case in [Case::Sensitive, Case::Ignored] {
        if let Ok(pattern) = Pattern::new(written, case) {
            plain(&pattern, written, subject, case);
        }
        if let Ok(value) = ValuePattern::parse(written, case) {
            for view in [
                TraitView::allowing(&traits, None),
                TraitView::allowing(&traits, Some(&traits)),
                TraitView::denying(&traits, Some(&traits)),
            ] {
                let _ = value.matches(subject, view);
                if let ValuePattern::Template(template) = &value {
                    template.each(view, &mut |text| {
                        let fits = template.matches(&text, view);
                        assert_eq!(fits, Match::Exact, "{written:?} stands for {text:?}");
                    });
                }
            }
        }
    }
}

fn plain(pattern: &Pattern, written: &str, subject: &str, case: Case) {
    let hit = pattern.matches(subject);
    let is_regex = written.starts_with('^') && written.ends_with('$');
    if pattern.is_any() {
        assert!(hit, "* does not match {subject:?}");
    }
    if let Some(exact) = pattern.as_exact() {
        assert!(pattern.matches(exact), "{exact:?} does not match itself");
        assert!(case == Case::Ignored || hit == (exact == subject), "{exact:?} {subject:?}");
    } else if !is_regex && case == Case::Sensitive && written.len() * subject.len() < 20_000 {
        assert_eq!(hit, by_definition(written, subject), "{written:?} {subject:?}");
    }
    if case == Case::Ignored && !is_regex {
        let strict = Pattern::new(written, Case::Sensitive);
        let strict = strict.is_ok_and(|strict| strict.matches(subject));
        assert!(hit || !strict, "{written:?} matches {subject:?} only while case counts");
    }
}

/// Whether a glob matches, by trying every way: row by row over the pattern, which ends of the
/// text it can have come to.
fn by_definition(glob: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut ends: Vec<bool> = (0..=text.len()).map(|end| end == 0).collect();
    for sign in glob.chars() {
        let mut next = vec![false; ends.len()];
        let mut any_before = false;
        let mut before = None;
        for (end, (now, next)) in ends.iter().zip(&mut next).enumerate() {
            any_before |= *now;
            let same = end.checked_sub(1).and_then(|at| text.get(at)) == Some(&sign);
            *next = if sign == '*' { any_before } else { same && before == Some(true) };
            before = Some(*now);
        }
        ends = next;
    }
    ends.last() == Some(&true)
}

/// Every trait that the cluster keeps, and those given as `NAME=VALUE`.
pub(super) fn traits<'a>(lines: impl IntoIterator<Item = &'a str>) -> Traits {
    let mut traits = Traits::new();
    for name in INTERNAL_TRAITS {
        traits.entry(name.into()).or_default().extend(["alice".into(), "*".into()]);
    }
    for (name, value) in lines.into_iter().take(16).filter_map(|line| line.split_once('=')) {
        traits.entry(name.into()).or_default().insert(value.into());
    }
    traits
}
