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
    find(mount, mount, id).map(|path| format!("/{}", path.display()))
}

fn find(mount: &Path, directory: &Path, id: u64) -> Option<PathBuf> {
    if fs::metadata(directory).is_ok_and(|metadata| metadata.ino() == id) {
        return directory.strip_prefix(mount).ok().map(Path::to_path_buf);
    }
    fs::read_dir(directory)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| find(mount, &entry.path(), id))
}

/// The ids of the directory `path` and of every directory below it.
///
/// # Errors
/// As [`lineage`].
pub(crate) fn subtree(mount: &Path, path: &str) -> Result<Vec<u64>> {
    let own = lineage(mount, path)?;
    let mut ids: Vec<u64> = own.first().copied().into_iter().collect();
    let mut pending = vec![mount.join(path.trim_start_matches('/'))];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.filter_map(Result::ok) {
            if let Ok(metadata) = entry.metadata()
                && metadata.is_dir()
            {
                ids.push(metadata.ino());
                pending.push(entry.path());
            }
        }
    }
    Ok(ids)
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

/// The lineage of every directory of the hierarchy, by its id: the id itself, then the id of each directory above it.
pub(crate) fn lineages(mount: &Path) -> HashMap<u64, Vec<u64>> {
    let mut found = HashMap::new();
    let mut pending = vec![(mount.to_path_buf(), Vec::new())];
    while let Some((directory, above)) = pending.pop() {
        // The directory may have been removed meanwhile.
        let Ok(metadata) = fs::metadata(&directory) else { continue };
        let lineage: Vec<u64> = std::iter::once(metadata.ino()).chain(above).collect();
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        pending.extend(below.map(|entry| (entry.path(), lineage.clone())));
        found.insert(metadata.ino(), lineage);
    }
    found
}
