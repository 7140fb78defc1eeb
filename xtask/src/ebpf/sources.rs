//! The hash over everything that the object is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use toml::{Table, Value};

use crate::ebpf::manifest::sha256;
use crate::ebpf::toolchain::BPF_FLAGS;
use crate::files::{files_below, read, read_text};
use crate::workspace::EBPF_PACKAGE;

/// The files and directories that the object is made from, by their paths from the root of the workspace.
const PATHS: [&str; 4] = ["tcpops-common/Cargo.toml", "tcpops-common/src", "tcpops-ebpf/Cargo.toml", "tcpops-ebpf/src"];
/// The tables of the root manifest that change the object: cargo hashes the version into symbols, the profile decides the
/// code.
const TABLES: [&str; 2] = ["workspace.package", "profile.release"];

/// Hashes the sources, the locked dependencies, and the settings of the build.
///
/// # Errors
/// A file cannot be read, or `Cargo.lock` lacks a package.
pub(crate) fn hash(root: &Path) -> Result<String> {
    let mut parts = BTreeMap::from([("flags".to_owned(), BPF_FLAGS.join(" ").into_bytes())]);
    for path in PATHS {
        for file in files_below(root, path)? {
            if file.ends_with(".rs") || file.ends_with(".toml") {
                let content = read(&root.join(&file))?;
                parts.insert(file, content);
            }
        }
    }
    let manifest: Table = parse(&root.join("Cargo.toml"))?;
    for name in TABLES {
        let table = name.split('.').try_fold(&Value::Table(manifest.clone()), |value, key| value.get(key)).cloned();
        let table = table.with_context(|| format!("expected a table [{name}] in Cargo.toml, found none"))?;
        parts.insert(format!("[{name}]"), table.to_string().into_bytes());
    }
    let lock: Lock = parse(&root.join("Cargo.lock"))?;
    parts.insert("Cargo.lock".to_owned(), lock.closure(EBPF_PACKAGE)?.join("\n").into_bytes());
    Ok(digest(&parts))
}

/// Hashes each part's name, length and content, in the order of the names.
fn digest(parts: &BTreeMap<String, Vec<u8>>) -> String {
    let framed =
        parts.iter().flat_map(|(name, content)| [format!("{name}\0{}\0", content.len()).as_bytes(), content].concat());
    sha256(&framed.collect::<Vec<_>>())
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    toml::from_str(&read_text(path)?).with_context(|| format!("cannot parse {}", path.display()))
}

/// The part of `Cargo.lock` that is used here.
#[derive(Deserialize)]
struct Lock {
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: String,
    checksum: Option<String>,
    /// Each is a name, followed by a version where the name alone is ambiguous.
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Lock {
    /// The package `name` and all that it depends on, each as a line of name, version and checksum, sorted.
    fn closure(&self, name: &str) -> Result<Vec<String>> {
        let mut found = BTreeSet::new();
        let mut wanted = vec![name.to_owned()];
        while let Some(dependency) = wanted.pop() {
            let mut words = dependency.split(' ');
            let (name, version) = (words.next(), words.next());
            let package = self.package.iter().find(|package| {
                Some(package.name.as_str()) == name && version.is_none_or(|version| package.version == version)
            });
            let package = package.with_context(|| {
                format!("expected package {dependency} in Cargo.lock, found none; run `cargo update -w`")
            })?;
            let line =
                format!("{} {} {}", package.name, package.version, package.checksum.as_deref().unwrap_or("here"));
            if found.insert(line) {
                wanted.extend(package.dependencies.iter().cloned());
            }
        }
        Ok(found.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_package_depends_on_counts() {
        let lock: Lock = toml::from_str(
            r#"
            [[package]]
            name = "a"
            version = "1.0.0"
            dependencies = ["b 2.0.0"]
            [[package]]
            name = "b"
            version = "1.0.0"
            [[package]]
            name = "b"
            version = "2.0.0"
            checksum = "ff"
            "#,
        )
        .unwrap();
        assert_eq!(lock.closure("a").unwrap(), ["a 1.0.0 here", "b 2.0.0 ff"]);
        assert!(lock.closure("c").is_err());
    }

    #[test]
    fn the_border_between_name_and_content_counts() {
        let part = |name: &str, content: &[u8]| digest(&BTreeMap::from([(name.to_owned(), content.to_vec())]));
        assert_ne!(part("ab", b"c"), part("a", b"bc"));
    }
}
