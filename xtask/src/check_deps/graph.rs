//! The graph of `cargo metadata`, as far as the rules need it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Deserialize;

/// Which crate imports which, by name.
///
/// Versions are folded together: a rule speaks of a crate whatever its version.
#[derive(Debug)]
pub(super) struct Graph {
    members: BTreeSet<String>,
    /// Dependencies that are built with the crate: normal ones and those of build scripts.
    edges: BTreeMap<String, BTreeSet<String>>,
    /// The same and those of tests.
    all_edges: BTreeMap<String, BTreeSet<String>>,
    /// Features declared by a crate (first) for a dependency (second), tests apart.
    features: BTreeMap<(String, String), BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    #[serde(default)]
    dependencies: Vec<Declared>,
}

#[derive(Deserialize)]
struct Declared {
    name: String,
    kind: Option<String>,
    #[serde(default)]
    features: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

impl Graph {
    /// Reads what `cargo metadata --format-version 1` prints.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let metadata: Metadata = serde_json::from_slice(json)
            .map_err(|err| format!("cannot read what cargo metadata prints: {err}"))?;
        let names: BTreeMap<&str, &str> =
            metadata.packages.iter().map(|p| (p.id.as_str(), p.name.as_str())).collect();
        let name = |id: &str| {
            names.get(id).map(|&name| name.to_owned()).ok_or_else(|| format!("no package {id}"))
        };

        let members =
            metadata.workspace_members.iter().map(|id| name(id)).collect::<Result<_, _>>()?;
        let (mut edges, mut all_edges) = (BTreeMap::new(), BTreeMap::new());
        for node in &metadata.resolve.nodes {
            let from = name(&node.id)?;
            let built: &mut BTreeSet<String> = edges.entry(from.clone()).or_default();
            let all: &mut BTreeSet<String> = all_edges.entry(from).or_default();
            for dep in &node.deps {
                let to = name(&dep.pkg)?;
                if dep.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev")) {
                    built.insert(to.clone());
                }
                all.insert(to);
            }
        }
        let mut features: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for package in &metadata.packages {
            for declared in package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev"))
            {
                features
                    .entry((package.name.clone(), declared.name.clone()))
                    .or_default()
                    .extend(declared.features.iter().cloned());
            }
        }
        Ok(Self { members, edges, all_edges, features })
    }

    /// The crates of the workspace.
    pub(super) fn members(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(String::as_str)
    }

    /// Whether a crate is one of the workspace.
    pub(super) fn is_member(&self, name: &str) -> bool {
        self.members.contains(name)
    }

    /// Every crate in the graph.
    pub(super) fn packages(&self) -> impl Iterator<Item = &str> {
        self.edges.keys().map(String::as_str)
    }

    /// What a crate imports, its tests apart.
    pub(super) fn imports(&self, name: &str) -> impl Iterator<Item = &str> {
        self.edges.get(name).into_iter().flatten().map(String::as_str)
    }

    /// The features that a crate declares for a dependency.
    pub(super) fn declared_features(
        &self,
        name: &str,
        import: &str,
    ) -> impl Iterator<Item = &str> + use<'_> {
        let key = (name.to_owned(), import.to_owned());
        self.features.get(&key).into_iter().flatten().map(String::as_str)
    }

    /// A shortest way to everything that a crate declares itself or through crates of ours.
    pub(super) fn ways<'a>(&'a self, from: &'a str) -> Vec<Vec<&'a str>> {
        let mut ways = Vec::new();
        let mut seen = BTreeSet::from([from]);
        let mut queue = VecDeque::from([vec![from]]);
        while let Some(way) = queue.pop_front() {
            let Some(&last) = way.last() else { continue };
            if last != from {
                ways.push(way.clone());
            }
            if !self.is_member(last) {
                continue;
            }
            for next in self.imports(last) {
                if seen.insert(next) {
                    let mut longer = way.clone();
                    longer.push(next);
                    queue.push_back(longer);
                }
            }
        }
        ways
    }

    /// A shortest way from a crate of ours to any crate in the graph, tests included.
    pub(super) fn path_to<'a>(&'a self, target: &'a str) -> Vec<&'a str> {
        let mut seen: BTreeSet<&str> = self.members().collect();
        let mut queue: VecDeque<Vec<&str>> = self.members().map(|member| vec![member]).collect();
        while let Some(way) = queue.pop_front() {
            let Some(&last) = way.last() else { continue };
            if last == target {
                return way;
            }
            for next in self.all_edges.get(last).into_iter().flatten() {
                if seen.insert(next) {
                    let mut longer = way.clone();
                    longer.push(next);
                    queue.push_back(longer);
                }
            }
        }
        vec![target]
    }
}
