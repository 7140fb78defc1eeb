//! Finds which files of a package import which.

use std::collections::{BTreeMap, HashSet};

use crate::lint::source::{Package, Source};

/// A mention, in one file, of something that another one defines.
pub(super) struct Import<'a> {
    pub(super) from: &'a Source,
    pub(super) to: &'a Source,
    /// The line of `from`.
    pub(super) line: usize,
    /// The path that is mentioned there.
    pub(super) path: &'a [String],
}

/// The first import of each file by each other, in the order of the files.
pub(super) fn imports(package: &Package) -> Vec<Import<'_>> {
    let mut modules = Modules::new();
    for source in &package.sources {
        // Where a package has a library and a binary, `crate` is the library: `lib.rs` comes before `main.rs`.
        modules.entry(&source.module).or_insert(source);
    }
    let mut imports = Vec::new();
    for from in &package.sources {
        let mut imported = HashSet::from([from.path.as_str()]);
        for (line, path) in from.paths() {
            let defining = defining_file(path, &modules);
            imports.extend(defining.filter(|to| imported.insert(&to.path)).map(|to| Import { from, to, line, path }));
        }
    }
    imports
}

/// The files of the modules, by their paths.
type Modules<'a> = BTreeMap<&'a [String], &'a Source>;

/// The file that defines what a path names: that of the longest module in the path, or, if this file only imports the
/// name, the one that it imports it from.
fn defining_file<'a>(path: &[String], modules: &Modules<'a>) -> Option<&'a Source> {
    let mut path = path.to_vec();
    let mut followed = HashSet::new();
    loop {
        let (length, source) =
            (1..=path.len()).rev().find_map(|length| Some((length, *modules.get(&path[..length])?)))?;
        let imported = path.get(length).and_then(|name| source.names.get(name));
        match imported.filter(|imported| imported[0] == "crate") {
            Some(imported) if followed.insert(&source.path) => path = [&imported, &path[length + 1..]].concat(),
            _ => return Some(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The imports between files of the agent, as `from:line to`, without the directory and the extension.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let name = |source: &Source| source.path["tcpops-agent/src/".len()..].trim_end_matches(".rs").to_owned();
        let shown = |import: &Import<'_>| format!("{}:{} {}", name(import.from), import.line, name(import.to));
        imports(&Package::agent(files)).iter().map(shown).collect()
    }

    #[test]
    fn a_path_leads_to_the_longest_module_in_it() {
        let files = [("a/b", "pub fn f() {}"), ("a/mod", "pub mod b;"), ("c", "fn f() {\n crate::a::b::f() }")];
        assert_eq!(found(&files), ["c:2 a/b"]);
        let files = [("a/mod", "pub struct S;"), ("a/b", "use super::S;\nuse super::S as T;")];
        assert_eq!(found(&files), ["a/b:1 a/mod"]);
        let files = [("a", ""), ("b", "use crate::{a::X, c::Y};\nuse std::fs;"), ("c", "")];
        assert_eq!(found(&files), ["b:1 a", "b:1 c"]);
    }

    #[test]
    fn declarations_visibilities_and_tests_are_no_imports() {
        let files = [
            ("a/mod", "mod b;\n#[cfg(test)] mod tests;\n#[cfg(test)] use b::B;"),
            ("a/b", "pub(in crate::a) fn f() { self::g() }"),
            ("a/tests", "use crate::c::C;"),
            ("c", ""),
        ];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn imports_of_an_import_are_followed() {
        let parent = ("a/mod", "mod b;\nmod c;\npub(crate) use b::B;\npub use c::*;\nuse std::fs;");
        let files = [parent, ("a/b", ""), ("a/c", "use super::B;"), ("d", "use crate::a::B;\nfn f() { B::new() }")];
        assert_eq!(found(&files), ["a/mod:3 a/b", "a/mod:4 a/c", "a/c:1 a/b", "d:1 a/b"]);
        // A glob or another crate counts as the parent.
        let files = [parent, ("a/b", "use super::fs;"), ("a/c", ""), ("d", "use crate::a::C;")];
        assert_eq!(found(&files), ["a/mod:3 a/b", "a/mod:4 a/c", "a/b:1 a/mod", "d:1 a/mod"]);
        let own = "pub use self::E::E;\npub enum E { E }";
        assert_eq!(found(&[("a", own), ("b", "use crate::a::E;")]), ["b:1 a"]);
        // Two that name each other have no definition.
        assert_eq!(found(&[("a", "pub use crate::b::X;"), ("b", "pub use crate::a::X;")]), ["a:1 b", "b:1 a"]);
    }

    #[test]
    fn a_binary_imports_its_library() {
        let files = [("lib", "pub mod cli;"), ("main", "fn main() { tcpops_agent::cli::main() }"), ("cli", "")];
        assert_eq!(found(&files), ["main:1 cli"]);
    }
}
