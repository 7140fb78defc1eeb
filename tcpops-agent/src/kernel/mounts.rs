//! The mount points of cgroup2 and bpffs: a hybrid layout has cgroup2 below `/sys/fs/cgroup/unified`, and bpffs may not be
//! mounted at all.

use std::path::{Path, PathBuf};

use procfs::process::Process;
use rustix::mount::{MountFlags, mount};

use crate::kernel::error::{KernelError, Result};

/// Where bpffs is mounted if it is not yet.
const BPFFS: &str = "/sys/fs/bpf";

/// The root of the cgroup2 hierarchy.
pub(crate) fn cgroup2() -> Result<PathBuf> {
    find("cgroup2")?.ok_or(KernelError::NoCgroup2)
}

/// The mount point of bpffs, which is mounted if it is not yet.
pub(crate) fn bpffs() -> Result<PathBuf> {
    if let Some(path) = find("bpf")? {
        return Ok(path);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    mount("bpf", BPFFS, "bpf", flags, c"mode=700").map_err(KernelError::syscall("mount", BPFFS))?;
    tracing::info!(path = BPFFS, "mounted bpffs");
    Ok(PathBuf::from(BPFFS))
}

/// True if `path`, or the nearest directory above it that exists, is in a file system of type `fs_type`.
pub(crate) fn is_within(path: &Path, fs_type: &str) -> Result<bool> {
    Ok(mounts()?
        .into_iter()
        .filter(|(mount_point, _)| path.starts_with(mount_point))
        .max_by_key(|(mount_point, _)| mount_point.components().count())
        .is_some_and(|(_, mounted)| mounted == fs_type))
}

fn find(fs_type: &str) -> Result<Option<PathBuf>> {
    Ok(mounts()?.into_iter().find(|(_, mounted)| mounted == fs_type).map(|(mount_point, _)| mount_point))
}

fn mounts() -> Result<Vec<(PathBuf, String)>> {
    let mounts = Process::myself()
        .and_then(|process| process.mountinfo())
        .map_err(std::io::Error::other)
        .map_err(KernelError::syscall("read", "/proc/self/mountinfo"))?;
    Ok(mounts.into_iter().map(|mount| (mount.mount_point, mount.fs_type)).collect())
}
