//! The hash over everything that the object is made from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use toml::{Table, Value};

use crate::ebpf::manifest::sha256;
use crate::ebpf::toolchain::BPF_FLAGS;
use crate::workspace::EBPF_PACKAGE;

/// The files and directories whose content counts, from the root of the workspace.
const PATHS: [&str; 4] = ["tcpops-common/Cargo.toml", "tcpops-common/src", "tcpops-ebpf/Cargo.toml", "tcpops-ebpf/src"];
/// The tables of the root manifest that count: the version is in cargo's symbol hashes, the profile in the code.
const TABLES: [&str; 2] = ["workspace.package", "profile.release"];

/// The hash over the sources, the locked dependencies, and the settings of the build.
///
/// # Errors
/// A file cannot be read, or `Cargo.lock` does not hold what it should.
pub(crate) fn hash(root: &Path) -> Result<String> {
    let mut parts = BTreeMap::from([("flags".to_owned(), BPF_FLAGS.join(" ").into_bytes())]);
    for path in PATHS {
        read_all(root, Path::new(path), &mut parts)?;
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

/// Each part by its name, its length and its content, in the order of the names.
fn digest(parts: &BTreeMap<String, Vec<u8>>) -> String {
    let framed =
        parts.iter().flat_map(|(name, content)| [format!("{name}\0{}\0", content.len()).as_bytes(), content].concat());
    sha256(&framed.collect::<Vec<_>>())
}

fn read_all(root: &Path, path: &Path, parts: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let full = root.join(path);
    let context = || format!("cannot read {}", full.display());
    if full.is_dir() {
        for entry in fs::read_dir(&full).with_context(context)? {
            read_all(root, &path.join(entry.with_context(context)?.file_name()), parts)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "toml") {
        parts.insert(path.display().to_string(), fs::read(&full).with_context(context)?);
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))
}

/// The part of `Cargo.lock` that is used here.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
    /// Each a name, followed by a version where the name alone is not enough.
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Lock {
    /// Every package that `name` depends on, each as a line of name, version and checksum, sorted.
    fn closure(&self, name: &str) -> Result<Vec<String>> {
        let mut found = BTreeMap::new();
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
            if found.insert(line, ()).is_none() {
                wanted.extend(package.dependencies.iter().cloned());
            }
        }
        Ok(found.into_keys().collect())
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
