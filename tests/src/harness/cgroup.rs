//! Cgroups. The tests never attach to the root: other programs' connections live there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::name::unique;
use super::wait::patient;
use super::{mounts, require};

/// A cgroup2 directory; what runs in it is killed, and it is removed, with this value.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one below the root.
    pub(crate) fn new() -> Self {
        Self::make(mount_point().join(unique()))
    }

    /// Makes one in this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self::make(self.path.join(name))
    }

    fn make(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make the cgroup {}: {error}", path.display()));
        Self { path }
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its name from the root of the hierarchy, as rules give it.
    pub(crate) fn name(&self) -> String {
        let inner = self.path.strip_prefix(mount_point()).expect("it was made there");
        format!("/{}", inner.display())
    }

    /// Its number.
    pub(crate) fn id(&self) -> u64 {
        fs::metadata(&self.path).expect("it exists while this value lives").ino()
    }

    /// A command that moves itself in before it becomes `program`.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(require::tool("sh"));
        command.args(["-c", r#"echo $$ >"$0" && exec "$@""#]);
        command.arg(self.path.join("cgroup.procs")).arg(program.as_ref());
        command
    }

    /// The pids in it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).expect("it exists while this value lives");
        text.lines().map(|line| line.parse().expect("pids are numbers")).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _older_than_5_14 = fs::write(self.path.join("cgroup.kill"), "1");
        let start = Instant::now();
        while let Err(error) = fs::remove_dir(&self.path) {
            if start.elapsed() > patient(Duration::from_secs(5)) {
                eprintln!("cannot remove the cgroup {}: {error}", self.path.display());
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Where cgroup2 is mounted.
pub(crate) fn mount_point() -> PathBuf {
    mounts::of_type("cgroup2").into_iter().next().expect("the tests need cgroup2: mount it")
}
