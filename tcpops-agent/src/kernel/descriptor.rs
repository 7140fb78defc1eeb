//! Descriptors of other processes, and what a socket says of itself.

#![expect(unsafe_code, reason = "socket options that no library reads")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::net::Shutdown;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::{KernelError, Result};

/// Linux 6.5, include/uapi/asm-generic/socket.h.
const SO_PEERPIDFD: i32 = 77;

/// A handle to the process at the other end of a unix socket, as it was when it connected.
#[derive(Debug)]
pub(crate) struct Peer(OwnedFd);

impl Peer {
    /// Of an accepted unix socket.
    ///
    /// # Errors
    /// `Missing` on kernels before 6.5, which cannot tell without a race.
    pub(crate) fn of(socket: BorrowedFd<'_>) -> Result<Self> {
        let mut fd: RawFd = -1;
        get(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, &mut fd).map_err(|error| {
            if error.raw_os_error() == Some(libc::ENOPROTOOPT) {
                KernelError::Missing("fd: needs Linux 6.5 or later (SO_PEERPIDFD)".to_owned())
            } else {
                KernelError::syscall("getsockopt", "SO_PEERPIDFD", error)
            }
        })?;
        // SAFETY: the kernel made this descriptor for the call, and nobody else knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// A copy of the descriptor `number` of that process; `None` if it has none of that number.
    pub(crate) fn descriptor(&self, number: RawFd) -> io::Result<Option<Descriptor>> {
        match pidfd_getfd(self.0.as_fd(), number, PidfdGetfdFlags::empty()) {
            Ok(fd) => Ok(Some(Descriptor(fd))),
            Err(rustix::io::Errno::BADF) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A descriptor that another process owns too.
#[derive(Debug)]
pub(crate) struct Descriptor(OwnedFd);

/// What a descriptor turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DescriptorKind {
    /// A TCP socket.
    Tcp,
    /// An MPTCP socket: its subflows are TCP connections, it is not.
    Mptcp,
    /// Something else.
    Other,
}

impl Descriptor {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// `SO_COOKIE` of a TCP socket.
    pub(crate) fn cookie(&self) -> Option<u64> {
        tcp_cookie(self.0.as_raw_fd())
    }

    /// Sends a FIN, as the program that owns it does with `shutdown(SHUT_WR)`; false where it is not connected any more.
    pub(crate) fn end_writing(&self) -> Result<bool> {
        match rustix::net::shutdown(&self.0, Shutdown::Write) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOTCONN) => Ok(false),
            Err(error) => Err(KernelError::syscall("shutdown", "the socket", error)),
        }
    }

    /// For look-ups by socket.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// What it is.
    pub(crate) fn kind(&self) -> DescriptorKind {
        let mut protocol: i32 = 0;
        match get(self.0.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PROTOCOL, &mut protocol) {
            Ok(()) if protocol == libc::IPPROTO_TCP => DescriptorKind::Tcp,
            Ok(()) if protocol == libc::IPPROTO_MPTCP => DescriptorKind::Mptcp,
            _ => DescriptorKind::Other,
        }
    }
}

/// `SO_COOKIE` of what a number of this process leads to, if that is a TCP socket.
pub(crate) fn tcp_cookie(number: RawFd) -> Option<u64> {
    let mut protocol: i32 = 0;
    get(number, libc::SOL_SOCKET, libc::SO_PROTOCOL, &mut protocol).ok()?;
    if protocol != libc::IPPROTO_TCP {
        return None;
    }
    get_u64(number, libc::SOL_SOCKET, libc::SO_COOKIE).ok()
}

/// The supplementary groups of the process at the other end of a unix socket, as of its connect(2) (`SO_PEERGROUPS`,
/// Linux 4.13).
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // NGROUPS_MAX of the kernel's include/uapi/linux/limits.h.
    let mut groups = vec![0_u32; 65_536];
    let mut length = size_of_val(groups.as_slice()) as libc::socklen_t;
    let level = libc::SOL_SOCKET;
    let buffer = groups.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `length` bytes to the vector, which has them, and any bytes are a u32.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, libc::SO_PEERGROUPS, buffer, &raw mut length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(length as usize / size_of::<u32>());
    Ok(groups)
}

/// Reads a socket option that is a u64.
pub(crate) fn get_u64(socket: RawFd, level: i32, name: i32) -> io::Result<u64> {
    let mut value = 0;
    get(socket, level, name, &mut value)?;
    Ok(value)
}

/// Reads a socket option that is an integer of the size of `T`.
fn get<T: bytemuck::Pod>(socket: RawFd, level: i32, name: i32, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`, which has them, and any bytes are a value of `T`.
    let result = unsafe { libc::getsockopt(socket, level, name, std::ptr::from_mut(value).cast(), &raw mut length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
