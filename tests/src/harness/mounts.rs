//! The mount table.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, mount};

/// The places where a file system of `kind` is mounted.
pub(crate) fn of_type(kind: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let place = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let wanted = file_system.split(' ').next() == Some(kind);
        wanted.then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    };
    table.lines().filter_map(place).collect()
}

/// Where bpffs is mounted; it gets mounted if it is not. Agents that start at the same time in different tests thus do
/// not depend on which of them mounts it; that the agent can is a test of its own, in its own mount namespace.
pub(crate) fn bpffs() -> PathBuf {
    let place = Path::new("/sys/fs/bpf");
    let lock = File::open(place).expect("the kernel has bpffs, and a place for it");
    flock(&lock, FlockOperation::LockExclusive).expect("a directory can be locked");
    if let Some(place) = of_type("bpf").into_iter().next() {
        return place;
    }
    mount(c"bpf", place, c"bpf", MountFlags::empty(), None).expect("root may mount bpffs");
    place.to_owned()
}
