//! Reading files, with errors that name them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Reads a file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads a file that holds text.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a directory, and those above it that are missing.
///
/// # Errors
/// It cannot be made.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

/// The names of what is in a directory, sorted.
///
/// # Errors
/// It cannot be read.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>> {
    let context = || format!("cannot read {}", directory.display());
    let entries = fs::read_dir(directory).with_context(context)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>().with_context(context)?;
    names.sort();
    Ok(names)
}

/// The paths from `root` of the file `path`, or of all files below the directory `path`, sorted by directory.
///
/// # Errors
/// A directory cannot be read.
pub(crate) fn files_below(root: &Path, path: &str) -> Result<Vec<String>> {
    let full = root.join(path);
    if !full.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let below = names(&full)?.into_iter().map(|name| files_below(root, &format!("{path}/{name}")));
    Ok(below.collect::<Result<Vec<_>>>()?.concat())
}
