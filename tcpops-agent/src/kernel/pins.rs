//! The directory of the pins: `<base>/v<ABI>`, with every map and the links of the programs.
//!
//! What is pinned outlives the agent: rules still apply at handshakes and states are still tracked while none runs.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, MapError, MapInfo};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open};
use rustix::io::Errno;
use tcpops_common::maps::{ABI, CONNECTIONS, EVENTS, PINNED};

use crate::kernel::error::{KernelError, Result};
use crate::kernel::{mounts, own_directory};

/// The name of the pinned link of the sockops program. It is made last: where it exists, all others do.
pub(crate) const SOCKOPS_LINK: &str = "sockops";
/// The name of the pinned link of the setsockopt program, where that is attached.
pub(crate) const SETSOCKOPT_LINK: &str = "setsockopt";

/// The name of the directory that stands for the lock: bpffs has no plain files.
pub(crate) const LOCK: &str = "lock";

/// The pins of one agent, locked against other agents.
#[derive(Debug)]
pub(crate) struct Pins {
    base: PathBuf,
    directory: PathBuf,
    /// The lock is released when the process ends, however it ends.
    _lock: OwnedFd,
}

/// The parameters of a map, as the kernel reports them or as the object has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

impl Pins {
    /// Creates `base` if need be (`<bpffs>/tcpops` if none is given) and takes the lock in it.
    ///
    /// # Errors
    /// `NotBpffs` where `base` is not within a bpf file system, `ForeignPins` where other users can change what is there,
    /// `PinsInUse` where another agent holds the lock.
    pub(crate) fn lock(base: Option<&Path>) -> Result<Self> {
        let base = find(base)?;
        let lock = loop {
            if let Some(parent) = base.parent() {
                fs::create_dir_all(parent).map_err(KernelError::syscall("mkdir", parent.display()))?;
            }
            own_directory::make(&base).map_err(KernelError::syscall("mkdir", base.display()))?;
            own_directory::check(&base).map_err(|error| foreign(&base, error))?;
            if let Some(lock) = lock(&base)? {
                break lock;
            }
        };
        let directory = base.join(format!("v{ABI}"));
        Ok(Self { base, directory, _lock: lock })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// True if an earlier agent left its pins.
    pub(crate) fn exist(&self) -> bool {
        self.directory.join(SOCKOPS_LINK).exists()
    }

    /// An empty directory for new pins, next to the one that they will be moved to.
    pub(crate) fn staging(&self) -> Result<PathBuf> {
        let staging = self.staging_directory();
        remove_directory(&staging)?;
        // Maps without a link are left by a start that failed half way in an older version.
        remove_directory(&self.directory)?;
        fs::create_dir(&staging).map_err(KernelError::syscall("mkdir", staging.display()))?;
        Ok(staging)
    }

    /// Where new pins are made.
    pub(crate) fn staging_directory(&self) -> PathBuf {
        self.base.join(format!("v{ABI}-new"))
    }

    /// Moves the staged pins to their place.
    pub(crate) fn commit(&self, staging: &Path) -> Result<()> {
        fs::rename(staging, &self.directory).map_err(KernelError::syscall("rename", staging.display()))
    }

    /// Removes the links: the programs are detached, and the maps stay. One that is gone has detached its program already.
    pub(crate) fn unlink(&self) -> Result<()> {
        for name in [SOCKOPS_LINK, SETSOCKOPT_LINK] {
            let link = self.directory.join(name);
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(KernelError::syscall("unlink", link.display())(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes all pins; the last reference to a link detaches its program, and the last to a map deletes the map.
    pub(crate) fn remove(&self) -> Result<()> {
        remove_directory(&self.directory)?;
        remove_directory(&self.staging_directory())?;
        // With the lock held, so that an agent that waits for it finds another in its place.
        remove_directory(&self.base.join(LOCK))?;
        // Only if it is empty: another version's pins may be there.
        match fs::remove_dir(&self.base) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {
                Err(KernelError::syscall("rmdir", self.base.display())(error))
            }
            _ => Ok(()),
        }
    }

    /// Compares the pinned maps with those of the object: aya reuses a pin whatever its sizes are.
    pub(crate) fn check(&self, wanted: impl Fn(&str) -> Option<Shape>) -> Result<()> {
        for name in PINNED {
            let path = self.directory.join(name);
            let info = self.info(name)?;
            let found = Shape {
                map_type: info.map_type().map_err(KernelError::map(name))? as u32,
                key_size: info.key_size(),
                value_size: info.value_size(),
                max_entries: info.max_entries(),
                flags: info.map_flags(),
            };
            let Some(wanted) = wanted(name) else { return Err(KernelError::Value { name }) };
            let only_capacity = Shape { max_entries: wanted.max_entries, ..found } == wanted;
            // A ring of any size can be read.
            if found == wanted || only_capacity && name == EVENTS {
                continue;
            }
            return Err(if only_capacity && name == CONNECTIONS {
                KernelError::PinnedCapacity { path, found: found.max_entries, expected: wanted.max_entries }
            } else {
                KernelError::PinnedShape { path, found: format!("{found:?}"), expected: format!("{wanted:?}") }
            });
        }
        Ok(())
    }

    /// The capacity of the pinned maps.
    pub(crate) fn max_connections(&self) -> Result<u32> {
        self.info(CONNECTIONS).map(|info| info.max_entries())
    }

    fn info(&self, name: &str) -> Result<MapInfo> {
        let path = self.directory.join(name);
        if !path.exists() {
            return Err(KernelError::NoPin { path });
        }
        MapInfo::from_pin(&path).map_err(|error| KernelError::BrokenPin { path, source: Box::new(error) })
    }

    pub(crate) fn map_data(&self, name: &'static str) -> Result<MapData> {
        MapData::from_pin(self.directory.join(name)).map_err(KernelError::map(name))
    }

    /// Opens a pinned map.
    pub(crate) fn map<M: TryFrom<Map, Error = MapError>>(&self, name: &'static str) -> Result<M> {
        Map::from_map_data(self.map_data(name)?).and_then(M::try_from).map_err(KernelError::map(name))
    }
}

/// Where pins are to be: in a bpf file system.
pub(crate) fn find(base: Option<&Path>) -> Result<PathBuf> {
    let bpffs = mounts::bpffs()?;
    let base = base.map_or_else(|| bpffs.join("tcpops"), Path::to_path_buf);
    if mounts::is_within(&base, "bpf")? { Ok(base) } else { Err(KernelError::NotBpffs { base, bpffs }) }
}

/// Says of what other users can change that it is no place for pins.
pub(crate) fn foreign(base: &Path, error: KernelError) -> KernelError {
    match error {
        KernelError::Exposed(_) => KernelError::ForeignPins { base: base.to_path_buf(), source: Box::new(error) },
        error => error,
    }
}

/// Takes the lock, which no other user can even open; `None` where an agent that has ended meanwhile has removed it.
fn lock(base: &Path) -> Result<Option<OwnedFd>> {
    let path = base.join(LOCK);
    match own_directory::make(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        made => made.map_err(KernelError::syscall("mkdir", path.display()))?,
    }
    let lock = match open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened.map_err(KernelError::syscall("open", path.display()))?,
    };
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        Errno::WOULDBLOCK => KernelError::PinsInUse { base: base.to_path_buf() },
        error => KernelError::syscall("flock", path.display())(error),
    })?;
    let locked = fstat(&lock).map_err(KernelError::syscall("fstat", path.display()))?;
    let is_there = fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == locked.st_ino);
    Ok(is_there.then_some(lock))
}

fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::NotADirectory => {
                Err(KernelError::BrokenPin { path: directory.to_path_buf(), source: Box::new(error) })
            }
            _ => Err(KernelError::syscall("unlink", directory.display())(error)),
        },
    }
}
