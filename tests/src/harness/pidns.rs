//! Pid namespaces: an agent in one sees only the processes in there, and finds only their network namespaces.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::command::Running;
use super::netns::NetNs;
use super::require;
use super::wait::{SOON, wait_for};

/// A pid namespace; every process in it is killed with this value.
#[derive(Debug)]
pub(crate) struct PidNs {
    file: File,
    _first: Running,
}

impl PidNs {
    /// Makes one, with a first process that does nothing.
    pub(crate) fn new() -> Self {
        let mut command = Command::new(require::tool("unshare"));
        command.args(["--pid", "--fork", "--kill-child", "sleep", "infinity"]);
        let first = Running(command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")));
        let own = fs::metadata("/proc/self/ns/pid").expect("every process is in one").ino();
        let path = format!("/proc/{}/ns/pid_for_children", first.0.id());
        let file = wait_for("there is another pid namespace", SOON, || {
            let file = File::open(&path).ok()?;
            (file.metadata().ok()?.ino() != own).then_some(file)
        });
        Self { file, _first: first }
    }

    /// Starts `command` in this pid namespace and in a network namespace.
    pub(crate) fn spawn(&self, namespace: &NetNs, command: &mut Command) -> Child {
        namespace.run(|| {
            // It is for the children of this thread, which ends with this.
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::ProcessID)).expect("root may enter");
            command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
        })
    }
}
