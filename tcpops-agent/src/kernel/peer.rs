//! The process at the other end of a unix socket: what it holds, and the credentials that it has now.

#![expect(unsafe_code, reason = "socket options that no library reads")]

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::kernel::descriptor::{Descriptor, option};
use crate::kernel::error::{KernelError, Result};

/// Linux 6.5.
const SO_PEERPIDFD: i32 = 77;

/// A pidfd of the process at the other end of a unix socket, as it was when it connected.
#[derive(Debug)]
pub(crate) struct Peer {
    pidfd: OwnedFd,
    /// Its number here; zero where it is in a pid namespace that cannot be seen from here.
    pid: i32,
}

/// The credentials of a process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The real, effective, saved and file system uid.
    pub(crate) uids: [u32; 4],
    /// The real, effective, saved and file system gid.
    pub(crate) gids: [u32; 4],
    /// The supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// False for a process that others of its uid may not trace, since it came by other rights with execve(2) or has given
    /// up some (`PR_GET_DUMPABLE` of prctl(2)).
    pub(crate) dumpable: bool,
}

impl Peer {
    /// The peer of an accepted unix socket, of which `SO_PEERCRED` gives the number `pid`.
    ///
    /// # Errors
    /// `NoPeerPidfd` on kernels before 6.5, which have no race-free way.
    pub(crate) fn of(socket: BorrowedFd<'_>, pid: i32) -> Result<Self> {
        let fd: RawFd = option(socket, SO_PEERPIDFD).map_err(|error| match error {
            Errno::NOPROTOOPT => KernelError::NoPeerPidfd,
            error => KernelError::syscall("getsockopt", "SO_PEERPIDFD")(error),
        })?;
        // SAFETY: the kernel made this descriptor for the call, and nobody else knows of it.
        Ok(Self { pidfd: unsafe { OwnedFd::from_raw_fd(fd) }, pid })
    }

    /// A duplicate of the descriptor `number` of that process; `None` if it has no such descriptor.
    pub(crate) fn descriptor(&self, number: RawFd) -> io::Result<Option<Descriptor>> {
        match pidfd_getfd(self.pidfd.as_fd(), number, PidfdGetfdFlags::empty()) {
            Ok(fd) => Ok(Some(Descriptor::new(fd))),
            Err(Errno::BADF) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The credentials of the process now; `None` if it has ended, or cannot be seen from here.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        if self.pid <= 0 {
            return None;
        }
        let mut file = File::open(format!("/proc/{}/status", self.pid)).ok()?;
        let owner = file.metadata().ok()?.uid();
        let mut text = Vec::new();
        file.read_to_end(&mut text).ok()?;
        // Its number is its own for as long as it lives: so the file that was opened before was not another's.
        self.is_alive().then(|| Credentials::parse(&String::from_utf8_lossy(&text), owner)).flatten()
    }

    fn is_alive(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut ended, Some(&at_once)), Ok(0))
    }
}

impl Credentials {
    /// From the text of `/proc/PID/status` and its owner, which is root instead of the effective uid where the process is not
    /// dumpable (`task_dump_owner` of the kernel's fs/proc/base.c).
    fn parse(text: &str, owner: u32) -> Option<Self> {
        let numbers = |name: &str| -> Option<Vec<u32>> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().map(|number| number.parse().ok()).collect()
        };
        let uids: [u32; 4] = numbers("Uid")?.try_into().ok()?;
        let gids = numbers("Gid")?.try_into().ok()?;
        Some(Self { uids, gids, groups: numbers("Groups")?, dumpable: owner == uids[1] })
    }
}

/// The supplementary groups that the process at the other end of a unix socket had at its connect(2) (`SO_PEERGROUPS`).
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // NGROUPS_MAX of the kernel's include/uapi/linux/limits.h.
    let mut groups = vec![0_u32; 65_536];
    let mut length = size_of_val(groups.as_slice()) as libc::socklen_t;
    let (socket, to) = (socket.as_raw_fd(), groups.as_mut_ptr().cast());
    // SAFETY: the kernel writes at most `length` bytes to the vector, which has them, and any bytes are a u32.
    let result = unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS, to, &raw mut length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(length as usize / size_of::<u32>());
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_the_status_of_a_process() {
        let text = "Name:\tUid:\\n1\nUid:\t1000\t0\t0\t1000\nGid:\t7\t8\t9\t10\nGroups:\t4 24 \nSeccomp:\t0\n";
        let read = Credentials::parse(text, 1000).unwrap();
        assert_eq!((read.uids, read.gids, read.groups.clone()), ([1000, 0, 0, 1000], [7, 8, 9, 10], vec![4, 24]));
        assert!(!read.dumpable);
        assert!(Credentials::parse(text, 0).unwrap().dumpable);
        assert_eq!(Credentials::parse("Uid:\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\n", 1), None);
    }
}
