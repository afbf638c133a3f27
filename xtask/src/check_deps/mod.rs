//! The arrows between the crates, and what must not be in the graph at all.
//!
//! Three kinds of rule, each in a table of [`rules`]: which of our crates may import which; what a
//! crate may not declare, nor any of ours that it imports; and crates that nobody may bring in.
//! Only declared dependencies are judged, for cargo unifies features over a workspace: a crate of
//! somebody else's may show more in the graph here than it has for who takes one of ours alone.

mod graph;
mod rules;
#[cfg(test)]
mod tests;

use graph::Graph;

use crate::run::{Outcome, cargo};
use rules::{CrateRule, FEATURES, FORBIDDEN, MEMBERS, OWNED};

/// Checks the workspace as it is.
pub(crate) fn run() -> Outcome {
    let output = cargo(&["metadata", "--format-version", "1"])
        .output()
        .map_err(|err| format!("cannot run cargo metadata: {err}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let graph = Graph::parse(&output.stdout)?;
    let violations = violations(&graph);
    if violations.is_empty() {
        println!(
            "{} crates of ours, {} in all: every arrow is as it should be",
            graph.members().count(),
            graph.packages().count()
        );
        return Ok(());
    }
    Err(format!("{} against the rules:\n  {}", violations.len(), violations.join("\n  ")))
}

/// Every violation, each naming who, what and why.
fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for member in graph.members() {
        match MEMBERS.iter().find(|rule| rule.name == member) {
            Some(rule) => arrows(graph, rule, &mut found),
            None => found.push(format!(
                "{member} is not in the table of arrows: list it in xtask/src/check_deps/rules.rs"
            )),
        }
        owners(graph, member, &mut found);
        features(graph, member, &mut found);
    }
    for package in graph.packages() {
        if let Some((name, why)) = FORBIDDEN.iter().find(|(name, _)| *name == package) {
            let by = graph.path_to(name).join(" -> ");
            found.push(format!("{name} is in the graph ({why}), by {by}"));
        }
    }
    found
}

/// What a crate imports of ours, and what it must not reach through that.
fn arrows(graph: &Graph, rule: &CrateRule, found: &mut Vec<String>) {
    let name = rule.name;
    if let Some(allowed) = rule.imports {
        for import in graph.imports(name).filter(|import| graph.is_member(import)) {
            if !allowed.contains(&import) {
                found.push(format!("{name} imports {import}, which no arrow allows"));
            }
        }
    }
    for way in graph.ways(name) {
        let Some(last) = way.last() else { continue };
        if let Some((_, why)) = rule.never.iter().find(|(never, _)| never == last) {
            found.push(format!("{name} reaches {last} ({why}), by {}", way.join(" -> ")));
        }
    }
}

/// Crates that have one owner among ours, tests apart.
fn owners(graph: &Graph, member: &str, found: &mut Vec<String>) {
    for import in graph.imports(member) {
        if let Some((_, owners, why)) = OWNED.iter().find(|(owned, ..)| *owned == import)
            && !owners.contains(&member)
        {
            found.push(format!("{member} imports {import}: {why}"));
        }
    }
}

/// Features that a crate must not ask for.
fn features(graph: &Graph, member: &str, found: &mut Vec<String>) {
    for (name, import, banned, why) in FEATURES.iter().filter(|(name, ..)| *name == member) {
        for feature in graph.declared_features(name, import) {
            if banned.contains(&feature) {
                found.push(format!("{name} asks for {import}/{feature}: {why}"));
            }
        }
    }
}
