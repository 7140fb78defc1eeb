//! The directory of the pins: `<base>/v<ABI>`, with every map and the links of the programs.
//!
//! What is pinned outlives the agent: rules still apply at handshakes and states are still tracked while none runs.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, MapError, MapInfo};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use tcpops_common::maps::{ABI, CONNECTIONS, EVENTS, PINNED};

use crate::kernel::error::{KernelError, Result};
use crate::kernel::mounts;

/// The name of the pinned link of the sockops program. It is made last: where it exists, all others do.
pub(crate) const SOCKOPS_LINK: &str = "sockops";
/// The name of the pinned link of the setsockopt program, where that is attached.
pub(crate) const SETSOCKOPT_LINK: &str = "setsockopt";

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
    /// Creates `base` if need be (`<bpffs>/tcpops` if none is given) and locks it.
    ///
    /// # Errors
    /// `NotBpffs` where `base` is not within a bpf file system, `PinsInUse` where another agent holds the lock.
    pub(crate) fn lock(base: Option<&Path>) -> Result<Self> {
        let bpffs = mounts::bpffs()?;
        let base = base.map_or_else(|| bpffs.join("tcpops"), Path::to_path_buf);
        if !mounts::is_within(&base, "bpf")? {
            return Err(KernelError::NotBpffs { base, bpffs });
        }
        fs::create_dir_all(&base).map_err(KernelError::syscall("mkdir", base.display()))?;
        let lock = open(&base, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(KernelError::syscall("open", base.display()))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => KernelError::PinsInUse { base: base.clone() },
            error => KernelError::syscall("flock", base.display())(error),
        })?;
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

    fn staging_directory(&self) -> PathBuf {
        self.base.join(format!("v{ABI}-new"))
    }

    /// Moves the staged pins to their place.
    pub(crate) fn commit(&self, staging: &Path) -> Result<()> {
        fs::rename(staging, &self.directory).map_err(KernelError::syscall("rename", staging.display()))
    }

    /// Removes the links: the programs are detached, and the maps stay.
    pub(crate) fn unlink(&self) -> Result<()> {
        for name in [SOCKOPS_LINK, SETSOCKOPT_LINK] {
            let link = self.directory.join(name);
            match fs::remove_file(&link) {
                // The setsockopt program is attached only while something needs it.
                Err(error) if name == SETSOCKOPT_LINK && error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(KernelError::syscall("unlink", link.display()))?,
            }
        }
        Ok(())
    }

    /// Removes all pins; the last reference to a link detaches its program, and the last to a map deletes the map.
    pub(crate) fn remove(&self) -> Result<()> {
        remove_directory(&self.directory)?;
        remove_directory(&self.staging_directory())?;
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
            if !path.exists() {
                return Err(KernelError::NoPin { path });
            }
            let info = MapInfo::from_pin(&path).map_err(KernelError::map(name))?;
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
        MapInfo::from_pin(self.directory.join(CONNECTIONS))
            .map(|info| info.max_entries())
            .map_err(KernelError::map(CONNECTIONS))
    }

    pub(crate) fn map_data(&self, name: &'static str) -> Result<MapData> {
        MapData::from_pin(self.directory.join(name)).map_err(KernelError::map(name))
    }

    /// Opens a pinned map.
    pub(crate) fn map<M: TryFrom<Map, Error = MapError>>(&self, name: &'static str) -> Result<M> {
        Map::from_map_data(self.map_data(name)?).and_then(M::try_from).map_err(KernelError::map(name))
    }
}

fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::syscall("unlink", directory.display())(error))
        }
        _ => Ok(()),
    }
}
