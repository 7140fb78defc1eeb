//! Directories of the cgroup2 hierarchy and their ids, which are inode numbers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// The id of the directory `path` (from the root of the hierarchy, such as `/system.slice`) below `mount`, then of each
/// directory above it, the root's last.
///
/// # Errors
/// Says which directory does not exist.
pub fn lineage(mount: &Path, path: &str) -> Result<Vec<u64>, String> {
    let inside = Path::new(path);
    if !inside.is_absolute() || inside.components().any(|part| part == Component::ParentDir) {
        return Err(format!("expected an absolute path without \"..\" such as \"/system.slice\", found \"{path}\""));
    }
    let mut ids = Vec::new();
    for directory in inside.ancestors() {
        let relative = directory.strip_prefix("/").unwrap_or(directory);
        let full = mount.join(relative);
        let metadata =
            fs::metadata(&full).map_err(|error| format!("no cgroup \"{path}\": {}: {error}", full.display()))?;
        if !metadata.is_dir() {
            return Err(format!("no cgroup \"{path}\": {} is not a directory", full.display()));
        }
        ids.push(metadata.ino());
    }
    Ok(ids)
}

/// The path, from the root of the hierarchy, of the directory with this id; `None` if there is none (any more).
pub fn path(mount: &Path, id: u64) -> Option<String> {
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
pub fn subtree(mount: &Path, path: &str) -> Result<Vec<u64>, String> {
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
