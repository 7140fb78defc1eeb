//! The directories of the cgroup2 hierarchy and their ids, which are inode numbers.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use parking_lot::Mutex;

use crate::kernel::error::{KernelError, Result};

/// The most lineages that are cached.
const KNOWN: usize = 10_000;

/// The id of the directory `path` (from the root of the hierarchy, such as `/system.slice`) below `mount`, then the id of
/// each directory above it, up to the root.
///
/// # Errors
/// `CgroupPath`, or `NoCgroup` with the directory that does not exist.
pub(crate) fn lineage(mount: &Path, path: &str) -> Result<Vec<u64>> {
    let inside = Path::new(path);
    if !inside.is_absolute() || inside.components().any(|part| part == Component::ParentDir) {
        return Err(KernelError::CgroupPath { found: path.to_owned() });
    }
    let mut ids = Vec::new();
    for directory in inside.ancestors() {
        let relative = directory.strip_prefix("/").unwrap_or(directory);
        let directory = mount.join(relative);
        // With a final slash, what is not a directory is not found.
        match fs::metadata(directory.join("")) {
            Ok(metadata) => ids.push(metadata.ino()),
            Err(source) => return Err(KernelError::NoCgroup { path: path.to_owned(), directory, source }),
        }
    }
    Ok(ids)
}

/// The path, from the root of the hierarchy, of the directory with this id; `None` if there is none.
pub(crate) fn path(mount: &Path, id: u64) -> Option<String> {
    let (directory, _) = walk(mount).find(|(_, lineage)| lineage[0] == id)?;
    Some(format!("/{}", directory.strip_prefix(mount).ok()?.display()))
}

/// The ids of the directory `path` and of every directory below it.
///
/// # Errors
/// As [`lineage`].
pub(crate) fn subtree(mount: &Path, path: &str) -> Result<Vec<u64>> {
    lineage(mount, path)?;
    Ok(walk(&mount.join(path.trim_start_matches('/'))).map(|(_, lineage)| lineage[0]).collect())
}

/// The lineage of every directory of the hierarchy, by its id: the id itself, then the id of each directory above it.
pub(crate) fn lineages(mount: &Path) -> HashMap<u64, Vec<u64>> {
    walk(mount).map(|(_, lineage)| (lineage[0], lineage)).collect()
}

/// The directory `top` and every directory below it.
pub(crate) fn directories(top: &Path) -> impl Iterator<Item = PathBuf> {
    walk(top).map(|(directory, _)| directory)
}

/// The directory `top` and every directory below it, each with its id and the ids of those above it up to `top`.
fn walk(top: &Path) -> impl Iterator<Item = (PathBuf, Vec<u64>)> {
    let mut pending = vec![(top.to_path_buf(), Vec::new())];
    std::iter::from_fn(move || {
        loop {
            let (directory, above) = pending.pop()?;
            // The directory may have been removed meanwhile.
            let Ok(metadata) = fs::metadata(&directory) else { continue };
            let lineage: Vec<u64> = std::iter::once(metadata.ino()).chain(above).collect();
            let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(std::result::Result::ok);
            let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            pending.extend(below.map(|entry| (entry.path(), lineage.clone())));
            return Some((directory, lineage));
        }
    })
}

/// A cache of the lineages of cgroups by id: the kernel does not reuse ids.
#[derive(Debug)]
pub(crate) struct Lineages {
    mount: PathBuf,
    known: Mutex<HashMap<u64, Option<Vec<u64>>>>,
}

impl Lineages {
    pub(crate) fn new(mount: PathBuf) -> Self {
        Self { mount, known: Mutex::default() }
    }

    /// The id of a cgroup and of each above it; `None` if it is gone, or not known. Blocks: it may read every directory.
    pub(crate) fn of(&self, id: u64) -> Option<Vec<u64>> {
        if id == 0 {
            return None;
        }
        let mut known = self.known.lock();
        if !known.contains_key(&id) {
            if known.len() >= KNOWN {
                known.clear();
            }
            known.extend(lineages(&self.mount).into_iter().map(|(id, lineage)| (id, Some(lineage))));
            // A cgroup that is gone is not looked up again.
            known.entry(id).or_insert(None);
        }
        known.get(&id).cloned().flatten()
    }
}
