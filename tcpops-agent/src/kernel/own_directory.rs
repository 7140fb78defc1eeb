//! Directories in which nobody but root, and the agent's own user, can put anything, or anything in their place.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf, absolute};

use rustix::process::geteuid;

use crate::kernel::error::{Exposed, Exposure, KernelError, Result};

/// The links that lead from one name to another, at the most: as many as the kernel follows.
const MAX_LINKS: usize = 40;
/// Set on a directory in which others may make names, and take away only their own.
const STICKY: u32 = 0o1000;
/// What allows the group, and all others, to make and take away names.
const WRITABLE: u32 = 0o022;

/// Checks a directory and everything on the way to it: none of it can be changed by other users, so that this stays as it is.
/// A directory that others may write to is fine on the way if it is sticky, as /tmp is.
///
/// # Errors
/// `Exposed` names the first that is not fine; `Syscall` where something cannot be looked at.
pub(crate) fn check(directory: &Path) -> Result<()> {
    let mut path = absolute(directory).map_err(KernelError::syscall("getcwd", "this process"))?;
    for _ in 0..MAX_LINKS {
        match first_link(&path)? {
            None => return Ok(()),
            Some(resolved) => path = resolved,
        }
    }
    Err(exposed(directory, Exposure::Links))
}

/// Makes a directory that no other user can enter, unless it is there.
pub(crate) fn make(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Checks the names of a path, each of which lies in one that was checked before, up to the first symbolic link; returns where
/// the path leads by way of that.
fn first_link(path: &Path) -> Result<Option<PathBuf>> {
    let mut names: Vec<&Path> = path.ancestors().collect();
    names.reverse();
    for name in names {
        let found = fs::symlink_metadata(name).map_err(KernelError::syscall("lstat", name.display()))?;
        let owner = found.uid();
        if owner != 0 && owner != geteuid().as_raw() {
            return Err(exposed(name, Exposure::Owner(owner)));
        }
        if found.is_symlink() {
            let target = fs::read_link(name).map_err(KernelError::syscall("readlink", name.display()))?;
            let mut resolved = name.parent().unwrap_or(Path::new("/")).join(target);
            resolved.extend(path.components().skip(name.components().count()));
            return Ok(Some(resolved));
        }
        if !found.is_dir() {
            return Err(exposed(name, Exposure::NotDirectory));
        }
        if is_open(&found, name == path) {
            return Err(exposed(name, Exposure::Mode(found.mode() & 0o7777)));
        }
    }
    Ok(None)
}

fn is_open(directory: &Metadata, is_last: bool) -> bool {
    directory.mode() & WRITABLE != 0 && (is_last || directory.mode() & STICKY == 0)
}

fn exposed(path: &Path, why: Exposure) -> KernelError {
    KernelError::Exposed(Exposed { path: path.to_path_buf(), why })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn why(directory: &Path) -> Option<Exposure> {
        match check(directory) {
            Ok(()) => None,
            Err(KernelError::Exposed(Exposed { why, .. })) => Some(why),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn every_name_on_the_way_counts() {
        let place = std::env::temp_dir().join(format!("tcpops-own-directory-{}", std::process::id()));
        let (outer, inner) = (place.join("outer"), place.join("outer/inner"));
        fs::create_dir_all(&inner).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&place, 0o755);
        for (of_outer, of_inner, expected) in [
            (0o755, 0o755, None),
            (0o1777, 0o700, None),
            (0o755, 0o1777, Some(Exposure::Mode(0o1777))),
            (0o755, 0o775, Some(Exposure::Mode(0o775))),
            (0o777, 0o700, Some(Exposure::Mode(0o777))),
        ] {
            mode(&outer, of_outer);
            mode(&inner, of_inner);
            assert_eq!(why(&inner), expected, "{of_outer:o} {of_inner:o}");
        }
        // The link is fine, what it leads to is not.
        symlink("outer", place.join("link")).unwrap();
        assert_eq!(why(&place.join("link/inner")), Some(Exposure::Mode(0o777)));
        mode(&outer, 0o755);
        assert_eq!(why(&place.join("link/inner")), None);
        symlink("round", place.join("round")).unwrap();
        assert_eq!(why(&place.join("round")), Some(Exposure::Links));
        fs::write(place.join("file"), "").unwrap();
        assert_eq!(why(&place.join("file")), Some(Exposure::NotDirectory));
        fs::remove_dir_all(&place).unwrap();
    }
}
