//! Refuses circles of imports between the files and folders of a package.
//!
//! The sources form a tree of folders and files. In the lowest folder that holds both ends of an import, the import is an
//! arrow between two nodes, each a file or a folder. So each import can close a circle in one folder only, and a circle of
//! files that spans folders shows as a circle of nodes in the lowest folder that holds them all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::lint::imports::{Import, imports};
use crate::lint::source::{Package, Source};
use crate::lint::violation::Violation;

/// The arrows between the nodes of one folder, each with its imports: from a node to the nodes that it imports.
type Graph<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<Import<'a>>>>;

/// A violation for each circle, the shortest of a folder first; no two circles share an arrow.
pub(super) fn check(packages: &[Package]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in packages {
        for (folder, mut graph) in folders(package) {
            while let Some(circle) = shortest_circle(&graph) {
                violations.push(violation(&folder.join("/"), &circle, &mut graph));
            }
        }
    }
    violations
}

/// The graph of each folder, by its path.
fn folders(package: &Package) -> BTreeMap<Vec<&str>, Graph<'_>> {
    let mut paths = BTreeSet::new();
    for source in &package.sources {
        let parents = source.path.match_indices('/').map(|(at, _)| &source.path[..at]);
        paths.extend(parents);
    }
    let mut folders = BTreeMap::<_, Graph<'_>>::new();
    for import in imports(package) {
        let (from, to) = (nodes(import.from, &paths), nodes(import.to, &paths));
        let depth = from.iter().zip(&to).take_while(|(from, to)| from == to).count();
        let graph = folders.entry(from[..depth].to_vec()).or_default();
        graph.entry(from[depth]).or_default().entry(to[depth]).or_default().push(import);
    }
    folders
}

/// The path of a file in the tree, as nodes. The file `foo.rs` belongs to the folder `foo` if there is one.
fn nodes<'a>(source: &'a Source, folders: &BTreeSet<&str>) -> Vec<&'a str> {
    let mut nodes: Vec<_> = source.path.split('/').collect();
    if let Some(stem) = source.path.strip_suffix(".rs").filter(|stem| folders.contains(stem)) {
        let name = stem.rsplit('/').next().unwrap_or(stem);
        nodes.insert(nodes.len() - 1, name);
    }
    nodes
}

/// The nodes of the shortest circle, with the first one again at the end.
fn shortest_circle<'a>(graph: &Graph<'a>) -> Option<Vec<&'a str>> {
    graph.keys().filter_map(|start| path_back(start, graph)).min_by_key(Vec::len)
}

fn path_back<'a>(start: &'a str, graph: &Graph<'a>) -> Option<Vec<&'a str>> {
    let mut paths = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop_front() {
        let nexts = path.last().and_then(|last| graph.get(last)).into_iter().flat_map(BTreeMap::keys);
        for next in nexts {
            let longer = [path.as_slice(), &[next]].concat();
            if *next == start {
                return Some(longer);
            }
            if seen.insert(next) {
                paths.push_back(longer);
            }
        }
    }
    None
}

/// Takes the imports of a circle out of the graph, and reports one for each of its arrows.
fn violation(folder: &str, circle: &[&str], graph: &mut Graph<'_>) -> Violation {
    let mut place = None;
    let mut found = format!("{folder} has a circle of imports, {}", circle.join(" -> "));
    for arrow in circle.windows(2) {
        let imports = graph.get_mut(arrow[0]).and_then(|nexts| nexts.remove(arrow[1])).unwrap_or_default();
        let Some(Import { from, to, line, path }) = imports.first() else { continue };
        let more = match imports.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let at = format!("{}:{line}", from.path);
        found += &format!("\n    {at} names `{}` of {}{more}", path.join("::"), to.path);
        place.get_or_insert(at);
    }
    Violation {
        place: place.unwrap_or_default(),
        rule: "no-circles",
        found,
        why: "parts that import each other can only be understood, tested and changed together",
        instead: "move what both need into a part of its own, or hand it down as an argument",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles between files of the agent, each as its folder and its nodes.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let violations = check(&[Package::agent(files)]);
        let first_line = |violation: &Violation| violation.found.lines().next().unwrap_or_default().to_owned();
        let shown = |line: String| line.replace("tcpops-agent/", "").replace(" has a circle of imports, ", ": ");
        violations.iter().map(first_line).map(shown).collect()
    }

    #[test]
    fn a_tree_has_no_circle() {
        let files =
            [("a/mod", "mod b;\nmod c;\npub use b::B;"), ("a/b", "use super::c;"), ("a/c", ""), ("d", "use crate::a;")];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn files_that_import_each_other_are_refused() {
        let files = [("a", "use crate::b::B;"), ("b", "use crate::c::C;"), ("c", "use crate::a::A;")];
        assert_eq!(found(&files), ["src: a.rs -> b.rs -> c.rs -> a.rs"]);
        let files = [("a/b", "use super::d;"), ("a/d", "use super::b;"), ("a/mod", "")];
        assert_eq!(found(&files), ["src/a: b.rs -> d.rs -> b.rs"]);
    }

    #[test]
    fn a_child_that_imports_its_parent_is_refused() {
        let files = [("a/mod", "mod b;\nuse b::B;\npub struct A;"), ("a/b", "use super::A;")];
        assert_eq!(found(&files), ["src/a: b.rs -> mod.rs -> b.rs"]);
        let files = [("a", "mod b;\nuse b::B;\npub struct A;"), ("a/b", "use super::A;")];
        assert_eq!(found(&files), ["src/a: a.rs -> b.rs -> a.rs"]);
    }

    #[test]
    fn folders_whose_files_import_each_other_are_refused() {
        let files = [("a/x", "use crate::b::y;"), ("a/y", ""), ("b/x", "use crate::a::y;"), ("b/y", "")];
        assert_eq!(found(&files), ["src: a -> b -> a"]);
        // A file counts with the folder of its name.
        let files = [("a", "use crate::c::C;"), ("a/b", ""), ("c", "use crate::a::b::B;")];
        assert_eq!(found(&files), ["src: a -> c.rs -> a"]);
    }

    #[test]
    fn each_circle_is_shown_once_the_shortest_first() {
        let files =
            [("a", "use crate::b;"), ("b", "use crate::c;"), ("c", "use crate::{a, d};"), ("d", "use crate::c;")];
        assert_eq!(found(&files), ["src: c.rs -> d.rs -> c.rs", "src: a.rs -> b.rs -> c.rs -> a.rs"]);
    }

    #[test]
    fn every_arrow_has_a_line_that_shows_it() {
        let package = Package::of_files(
            &[],
            &[
                ("xtask/src/a/x.rs", "\nuse crate::b::B;"),
                ("xtask/src/a/y.rs", "use crate::b::B;"),
                ("xtask/src/b.rs", "fn f() {\n\n crate::a::x::f() }"),
            ],
        );
        let violations = check(&[package]);
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].place, "xtask/src/a/x.rs:2");
        let expected = "xtask/src has a circle of imports, a -> b.rs -> a
    xtask/src/a/x.rs:2 names `crate::b::B` of xtask/src/b.rs, and 1 more
    xtask/src/b.rs:3 names `crate::a::x::f` of xtask/src/a/x.rs";
        assert_eq!(violations[0].found, expected);
    }
}
