//! The names that a source file imports or declares as modules, each with the path that it stands for.

use std::collections::HashMap;

/// The names of a file.
pub(super) struct Names(HashMap<String, Vec<String>>);

impl Names {
    /// The names of a file whose package has a library of this name, which is where `crate` leads too.
    pub(super) fn new(library: &str) -> Self {
        Self(HashMap::from([(library.to_owned(), vec!["crate".to_owned()])]))
    }

    /// Adds a module. It wins over an import, which may be a function: the first segment of a path is the module.
    pub(super) fn add_module(&mut self, name: String, path: Vec<String>) {
        self.0.insert(name, path);
    }

    /// Adds an import. After `use anyhow::anyhow`, a path that begins with the name still begins with the crate.
    pub(super) fn add_import(&mut self, name: String, path: &[String]) {
        if name != "*" && path.first() != Some(&name) {
            self.0.entry(name).or_insert_with(|| path.to_vec());
        }
    }

    /// The path that a name stands for, from its crate.
    pub(super) fn get(&self, name: &str) -> Option<Vec<String>> {
        let mut path = self.0.get(name)?.clone();
        self.expand(&mut path);
        Some(path)
    }

    /// Replaces the first segment of a path by what it stands for, and so on.
    pub(super) fn expand(&self, path: &mut Vec<String>) {
        let mut replaced = Vec::new();
        while let Some((first, full)) = path.first().and_then(|first| self.0.get_key_value(first))
            && !replaced.contains(&first)
        {
            replaced.push(first);
            path.splice(..1, full.iter().cloned());
        }
    }
}
