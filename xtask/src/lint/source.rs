//! Reading the sources of a package.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml::Table;

use crate::lint::mentions::{Mention, What, mentions};

/// A package and what is in it.
pub(super) struct Package {
    /// The crates that it may name, as they are written in paths.
    pub(super) dependencies: BTreeSet<String>,
    /// Its source files, but those of tests.
    pub(super) sources: Vec<Source>,
}

impl Package {
    /// Reads the package in the directory of this name.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub(super) fn read(root: &Path, name: &str) -> Result<Self> {
        let mut sources = Vec::new();
        read_all(root, name, &format!("{name}/src"), &mut sources)?;
        let mentions = sources.iter().flat_map(|source| &source.mentions);
        let for_tests = mentions.filter_map(|mention| match &mention.what {
            What::TestModule(path) => Some(path.clone()),
            _ => None,
        });
        let for_tests: Vec<_> = for_tests.collect();
        sources.retain(|source| !for_tests.iter().any(|path| source.module.starts_with(path)));
        Ok(Self { dependencies: dependencies(&root.join(name).join("Cargo.toml"))?, sources })
    }
}

/// A source file and what it mentions.
pub(super) struct Source {
    /// From the root of the workspace.
    pub(super) path: String,
    /// Of its module, beginning with `crate`.
    module: Vec<String>,
    pub(super) text: String,
    pub(super) mentions: Vec<Mention>,
}

impl Source {
    /// A file of `package`, from its path and text.
    ///
    /// # Errors
    /// The text is not made of Rust's tokens.
    pub(super) fn new(package: &str, path: &str, text: String) -> Result<Self> {
        let inner = path.strip_prefix(package).and_then(|path| path.strip_prefix("/src/")).unwrap_or(path);
        let stem = inner.strip_suffix(".rs").unwrap_or(inner);
        let names = stem.split('/').filter(|name| !matches!(*name, "lib" | "main" | "mod"));
        let module: Vec<_> = std::iter::once("crate").chain(names).map(str::to_owned).collect();
        let mut mentions = mentions(&text, &module).with_context(|| format!("cannot read {path} as Rust"))?;
        // The binary of a package knows its library by the package's name.
        let library = package.replace('-', "_");
        for mention in &mut mentions {
            if let What::Path(path) = &mut mention.what
                && let Some(first) = path.first_mut().filter(|first| **first == library)
            {
                "crate".clone_into(first);
            }
        }
        Ok(Self { path: path.to_owned(), module, text, mentions })
    }
}

fn dependencies(manifest: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let table: Table = toml::from_str(&text).with_context(|| format!("cannot parse {}", manifest.display()))?;
    let names = table.get("dependencies").and_then(|value| value.as_table()).into_iter().flat_map(Table::keys);
    Ok(names.map(|name| name.replace('-', "_")).collect())
}

fn read_all(root: &Path, package: &str, path: &str, sources: &mut Vec<Source>) -> Result<()> {
    let full = root.join(path);
    let context = || format!("cannot read {}", full.display());
    if full.is_dir() {
        let mut names = Vec::new();
        for entry in fs::read_dir(&full).with_context(context)? {
            names.push(entry.with_context(context)?.file_name());
        }
        names.sort();
        for name in names {
            read_all(root, package, &format!("{path}/{}", name.display()), sources)?;
        }
    } else if path.ends_with(".rs") {
        sources.push(Source::new(package, path, fs::read_to_string(&full).with_context(context)?)?);
    }
    Ok(())
}
