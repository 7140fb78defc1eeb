//! The processes and descriptors that have a socket open.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, RawFd};

use procfs::process::{FDTarget, Process, all_processes};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::kernel::descriptor::{Descriptor, own_tcp_cookie};

/// A descriptor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pid: i32,
    fd: RawFd,
}

/// The places where sockets are open, by inode. Blocks: it reads every descriptor of every process, a few microseconds each.
/// A process that ends meanwhile, or may not be read, is left out.
pub(crate) fn places(inodes: &HashSet<u64>) -> HashMap<u64, Vec<Place>> {
    let mut found: HashMap<u64, Vec<Place>> = HashMap::new();
    let processes = all_processes().into_iter().flatten().filter_map(Result::ok);
    for process in processes {
        for (fd, inode) in sockets(&process) {
            if inodes.contains(&inode) {
                found.entry(inode).or_default().push(Place { pid: process.pid, fd });
            }
        }
    }
    found
}

impl Place {
    /// A duplicate of the descriptor, which may lead to something else by now.
    ///
    /// # Errors
    /// The process has ended or closed it, or the agent lacks CAP_SYS_PTRACE.
    pub(crate) fn fetch(self) -> std::io::Result<Descriptor> {
        let pid = Pid::from_raw(self.pid).ok_or(rustix::io::Errno::SRCH)?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Descriptor::new(pidfd_getfd(process.as_fd(), self.fd, PidfdGetfdFlags::empty())?))
    }
}

/// The cookies of the TCP sockets that this process has open.
pub(crate) fn own_cookies() -> HashSet<u64> {
    let own = Process::myself().ok();
    own.iter().flat_map(sockets).filter_map(|(fd, _)| own_tcp_cookie(fd)).collect()
}

fn sockets(process: &Process) -> impl Iterator<Item = (RawFd, u64)> + use<> {
    process.fd().into_iter().flatten().filter_map(|fd| match fd {
        Ok(info) => match info.target {
            FDTarget::Socket(inode) => Some((info.fd, inode)),
            _ => None,
        },
        Err(_closed) => None,
    })
}
