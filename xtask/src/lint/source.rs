//! Reads the sources of a package.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use toml::Table;

use crate::files::{files_below, read_text};
use crate::lint::mentions::{Mention, MentionKind, scan};
use crate::lint::names::Names;

/// A package and its sources.
pub(super) struct Package {
    /// The crates that it may name, as they are written in paths.
    pub(super) dependencies: BTreeSet<String>,
    /// Its source files, without those that are for tests only.
    pub(super) sources: Vec<Source>,
}

impl Package {
    /// Reads the package in the directory of this name.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub(super) fn read(root: &Path, name: &str) -> Result<Self> {
        let mut paths = files_below(root, &format!("{name}/src"))?;
        paths.retain(|path| path.ends_with(".rs"));
        let sources = paths.iter().map(|path| Source::new(name, path, read_text(&root.join(path))?));
        Ok(Self::new(dependencies(&root.join(name).join("Cargo.toml"))?, sources.collect::<Result<_>>()?))
    }

    fn new(dependencies: BTreeSet<String>, mut sources: Vec<Source>) -> Self {
        let mentions = sources.iter().flat_map(|source| &source.mentions);
        let for_tests = mentions.filter_map(|mention| match &mention.kind {
            MentionKind::TestModule(path) => Some(path.clone()),
            _ => None,
        });
        let for_tests: Vec<_> = for_tests.collect();
        sources.retain(|source| !for_tests.iter().any(|path| source.module.starts_with(path)));
        Self { dependencies, sources }
    }

    /// A package of files, each a path from the root of the workspace and a text.
    #[cfg(test)]
    pub(super) fn of_files(dependencies: &[&str], files: &[(&str, &str)]) -> Self {
        let source = |(path, text): &(&str, &str)| {
            let name = path.split('/').next().unwrap();
            Source::new(name, path, (*text).to_owned()).unwrap()
        };
        let dependencies = dependencies.iter().map(|name| (*name).to_owned());
        Self::new(dependencies.collect(), files.iter().map(source).collect())
    }

    /// The agent with these files, each a path under `src` without its extension and a text.
    #[cfg(test)]
    pub(super) fn agent(files: &[(&str, &str)]) -> Self {
        let files: Vec<_> = files.iter().map(|(stem, text)| (format!("tcpops-agent/src/{stem}.rs"), *text)).collect();
        Self::of_files(&[], &files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>())
    }
}

/// A source file and what it mentions.
pub(super) struct Source {
    /// The path from the root of the workspace.
    pub(super) path: String,
    /// The path of its module, beginning with `crate`.
    pub(super) module: Vec<String>,
    pub(super) text: String,
    pub(super) mentions: Vec<Mention>,
    /// The names that it imports or declares as modules.
    pub(super) names: Names,
}

impl Source {
    fn new(package: &str, path: &str, text: String) -> Result<Self> {
        let inner = path.strip_prefix(package).and_then(|path| path.strip_prefix("/src/")).unwrap_or(path);
        let stem = inner.strip_suffix(".rs").unwrap_or(inner);
        let names = stem.split('/').filter(|name| !matches!(*name, "lib" | "main" | "mod"));
        let module: Vec<_> = std::iter::once("crate").chain(names).map(str::to_owned).collect();
        let scanned = scan(&text, &package.replace('-', "_"), &module);
        let (mentions, names) = scanned.with_context(|| format!("cannot read {path} as Rust"))?;
        Ok(Self { path: path.to_owned(), module, text, mentions, names })
    }

    /// The paths that the file mentions, each with its line.
    pub(super) fn paths(&self) -> impl Iterator<Item = (usize, &[String])> {
        self.mentions.iter().filter_map(|mention| match &mention.kind {
            MentionKind::Path(path) => Some((mention.line, path.as_slice())),
            _ => None,
        })
    }
}

fn dependencies(manifest: &Path) -> Result<BTreeSet<String>> {
    let table: Table =
        toml::from_str(&read_text(manifest)?).with_context(|| format!("cannot parse {}", manifest.display()))?;
    let names = table.get("dependencies").and_then(|value| value.as_table()).into_iter().flat_map(Table::keys);
    Ok(names.map(|name| name.replace('-', "_")).collect())
}
