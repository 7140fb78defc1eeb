//! Removing pins that cannot be used, whatever is there.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::kernel::error::{KernelError, Result};
use crate::kernel::own_directory;
use crate::kernel::pins::{LOCK, Pins, find, foreign};

/// The names that are told of, at the most: what is foreign may have any number.
const MAX_NAMES: usize = 1000;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// The paths, those of directories after what was in them.
    pub(crate) paths: Vec<PathBuf>,
    /// True if there were more.
    pub(crate) more: bool,
}

/// Removes the pins of this version below `base`, also where something else is in their place; and `base` itself where it is
/// not root's alone, or no directory. Programs whose links are removed are detached.
///
/// # Errors
/// `PinsInUse` where an agent runs; `ForeignPins` where others can change what is above `base`, so that removing it would
/// be no cure.
pub(crate) fn remove_by_force(base: Option<&Path>) -> Result<Removed> {
    let base = find(base)?;
    let mut removed = Removed::default();
    match own_directory::check(&base) {
        Ok(()) => {}
        // An agent does not use such a directory, so there is none whose lock would be held.
        Err(KernelError::Exposed(exposed)) if exposed.path == base => return remove(&base, removed),
        Err(error) => return Err(foreign(&base, error)),
    }
    let lock = base.join(LOCK);
    if look_at(&lock)?.is_some_and(|found| !found.is_dir()) {
        removed = remove(&lock, removed)?;
    }
    let pins = Pins::lock(Some(&base))?;
    for directory in [pins.directory(), &pins.staging_directory()] {
        removed = remove(directory, removed)?;
    }
    pins.remove()?;
    Ok(removed)
}

/// Removes what is at `path`, with all that is in it; symbolic links are not followed.
fn remove(path: &Path, mut removed: Removed) -> Result<Removed> {
    let Some(found) = look_at(path)? else { return Ok(removed) };
    removed.list(path, &found);
    let result = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    result.map_err(KernelError::syscall("unlink", path.display()))?;
    Ok(removed)
}

fn look_at(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KernelError::syscall("lstat", path.display())(error)),
    }
}

impl Removed {
    fn list(&mut self, path: &Path, found: &Metadata) {
        if found.is_dir() {
            let mut names: Vec<_> = fs::read_dir(path).into_iter().flatten().flatten().take(MAX_NAMES).collect();
            names.sort_unstable_by_key(fs::DirEntry::file_name);
            for name in names {
                if let Ok(found) = name.metadata() {
                    self.list(&name.path(), &found);
                }
            }
        }
        if self.paths.len() < MAX_NAMES {
            self.paths.push(path.to_path_buf());
        } else {
            self.more = true;
        }
    }
}
