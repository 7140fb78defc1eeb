//! Network namespaces, cgroups and directories that the bench makes, and removes again.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use procfs::process::Process;

use crate::files;
use crate::process;

/// All that the bench makes has a name that begins so.
const PREFIX: &str = "tcpops-bench-";
/// Where `ip netns` keeps the names of namespaces.
const NAMESPACES: &str = "/run/netns";
/// Held for as long as a bench runs, so that what else has such a name is a leftover.
const LOCK: &str = "/run/tcpops-bench.lock";
/// How long the kernel may take to end what runs in a cgroup.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// The mount points that the bench works below, and its own directory.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Where cgroup2 is mounted.
    pub(crate) cgroups: PathBuf,
    /// Where bpffs is mounted.
    pub(crate) bpffs: PathBuf,
    /// For sockets, rules and logs.
    pub(crate) directory: PathBuf,
    _lock: File,
}

/// A network namespace and a cgroup of the same name; what runs in the cgroup is killed, and both are removed, with this
/// value.
#[derive(Debug)]
pub(crate) struct Place {
    /// The name of both.
    pub(crate) name: String,
    /// The namespace, as a file.
    pub(crate) netns: PathBuf,
    /// The cgroup's directory.
    pub(crate) cgroup: PathBuf,
}

impl Ground {
    /// Finds the mount points, and removes what an earlier bench left that was killed.
    ///
    /// # Errors
    /// Another bench runs, a file system is not mounted, or something cannot be removed.
    pub(crate) fn new() -> Result<Self> {
        let lock = File::create(LOCK).with_context(|| format!("cannot write {LOCK}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another bench runs on this machine; their numbers would be worthless")
            }
            Err(TryLockError::Error(error)) => return Err(error).context(format!("cannot lock {LOCK}")),
        }
        let cgroups = mounted("cgroup2")?.context("no cgroup2 file system is mounted")?;
        let bpffs = match mounted("bpf")? {
            Some(path) => path,
            None => {
                process::run(Command::new("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]))?;
                PathBuf::from("/sys/fs/bpf")
            }
        };
        let directory = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        let ground = Self { cgroups, bpffs, directory, _lock: lock };
        ground.remove_leftovers()?;
        files::make_directory(&ground.directory)?;
        Ok(ground)
    }

    fn remove_leftovers(&self) -> Result<()> {
        for cgroup in leftovers(&self.cgroups)? {
            remove_cgroup(&cgroup)?;
        }
        for namespace in leftovers(Path::new(NAMESPACES))? {
            remove_namespace(&namespace)?;
        }
        for directory in [leftovers(&self.bpffs)?, leftovers(&std::env::temp_dir())?].concat() {
            fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        Ok(())
    }

    /// A path for the pins of what has this name.
    pub(crate) fn pins(&self, name: &str) -> PathBuf {
        self.bpffs.join(name)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = self.remove_leftovers() {
            eprintln!("warning: {error:#}");
        }
    }
}

impl Place {
    /// Makes one, with a loopback whose ports suffice for many short connections.
    ///
    /// # Errors
    /// The namespace or the cgroup cannot be made.
    pub(crate) fn new(ground: &Ground, name: &str) -> Result<Self> {
        let name = format!("{PREFIX}{name}");
        let place = Self { netns: Path::new(NAMESPACES).join(&name), cgroup: ground.cgroups.join(&name), name };
        process::run(Command::new("ip").args(["netns", "add", &place.name]))?;
        process::run(Command::new("ip").args(["-n", &place.name, "link", "set", "lo", "up"]))?;
        fs::create_dir(&place.cgroup).with_context(|| format!("cannot make the cgroup {}", place.cgroup.display()))?;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for removed in [remove_cgroup(&self.cgroup), remove_namespace(&self.netns)] {
            if let Err(error) = removed {
                eprintln!("warning: {error:#}");
            }
        }
    }
}

fn remove_cgroup(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    files::write(&path.join("cgroup.kill"), "1")?;
    let start = Instant::now();
    while let Err(error) = fs::remove_dir(path) {
        if start.elapsed() > EMPTY_WITHIN {
            return Err(error).with_context(|| format!("cannot remove the cgroup {}", path.display()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn remove_namespace(path: &Path) -> Result<()> {
    match path.file_name() {
        Some(name) if path.exists() => process::run(Command::new("ip").args(["netns", "delete"]).arg(name)),
        _ => Ok(()),
    }
}

/// What in a directory has a name of the bench's; nothing where there is no directory.
fn leftovers(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let names = files::names(directory)?.into_iter().filter(|name| name.starts_with(PREFIX));
    Ok(names.map(|name| directory.join(name)).collect())
}

/// Where the first file system of this type is mounted.
fn mounted(kind: &str) -> Result<Option<PathBuf>> {
    let mounts =
        Process::myself().and_then(|process| process.mountinfo()).context("cannot read /proc/self/mountinfo")?;
    Ok(mounts.into_iter().find(|mount| mount.fs_type == kind).map(|mount| mount.mount_point))
}
