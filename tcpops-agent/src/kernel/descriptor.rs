//! Duplicates of descriptors of other processes, and the options of sockets.

#![expect(unsafe_code, reason = "socket options that no library reads or sets")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::sockopt::{socket_cookie, socket_protocol};
use rustix::net::{Shutdown, ipproto};
use tcpops_common::settings::{APPLY_OVERRIDE, SOL_TCPOPS};

use crate::kernel::error::{KernelError, Result};

/// The kernel's include/uapi/asm-generic/socket.h.
const SO_NETNS_COOKIE: i32 = 71;

/// A duplicate of a descriptor of another process.
#[derive(Debug)]
pub(crate) struct Descriptor(OwnedFd);

/// What a descriptor leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DescriptorKind {
    Tcp,
    /// An MPTCP socket: its subflows are TCP connections, it is not.
    Mptcp,
    Other,
}

impl Descriptor {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// `SO_COOKIE`, if it is a TCP socket.
    pub(crate) fn cookie(&self) -> Option<u64> {
        tcp_cookie(self.0.as_fd())
    }

    /// Sends a FIN, as `shutdown(SHUT_WR)` of the program would; false where the socket is no longer connected.
    pub(crate) fn end_writing(&self) -> Result<bool> {
        match rustix::net::shutdown(&self.0, Shutdown::Write) {
            Ok(()) => Ok(true),
            Err(Errno::NOTCONN) => Ok(false),
            Err(error) => Err(KernelError::syscall("shutdown", "the socket")(error)),
        }
    }

    /// Has the setsockopt program of the socket's cgroup apply the socket's override, under the socket's lock, in a few
    /// microseconds. False where there is no such program, which the entry then shows too.
    pub(crate) fn apply_override(&self, secret: u64) -> bool {
        let length = size_of_val(&secret) as libc::socklen_t;
        let value = (&raw const secret).cast();
        // SAFETY: the kernel reads `length` bytes of `secret`, which has them.
        unsafe { libc::setsockopt(self.0.as_raw_fd(), SOL_TCPOPS, APPLY_OVERRIDE, value, length) == 0 }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(crate) fn kind(&self) -> DescriptorKind {
        kind(self.0.as_fd())
    }
}

/// Has every descriptor of this process but the standard ones closed in programs that it starts, those too that it has
/// inherited without that mark. What it opens itself has it from the beginning.
pub(crate) fn keep_from_programs() -> Result<()> {
    let (first, last, flags) = (3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: with this flag the call marks descriptors, and closes none.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result < 0 { Err(KernelError::syscall("close_range", "this process")(last_errno())) } else { Ok(()) }
}

fn kind(descriptor: BorrowedFd<'_>) -> DescriptorKind {
    match socket_protocol(descriptor) {
        Ok(Some(ipproto::TCP)) => DescriptorKind::Tcp,
        Ok(Some(ipproto::MPTCP)) => DescriptorKind::Mptcp,
        _ => DescriptorKind::Other,
    }
}

fn tcp_cookie(descriptor: BorrowedFd<'_>) -> Option<u64> {
    if kind(descriptor) == DescriptorKind::Tcp { socket_cookie(descriptor).ok() } else { None }
}

/// `SO_COOKIE` of the TCP socket that descriptor `number` of this process leads to, if that is one.
pub(crate) fn own_tcp_cookie(number: RawFd) -> Option<u64> {
    // SAFETY: the borrow ends with this call, which does no more than read socket options; where another thread has closed
    // the descriptor they are those of another file, or there are none.
    tcp_cookie(unsafe { BorrowedFd::borrow_raw(number) })
}

/// The cookie of the network namespace that a socket is in (`SO_NETNS_COOKIE`, Linux 5.14).
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    option(socket, SO_NETNS_COOKIE)
}

/// Reads a socket option that is an integer of the size of `T`.
pub(crate) fn option<T: bytemuck::Pod>(socket: BorrowedFd<'_>, name: i32) -> Result<T, Errno> {
    let mut value = T::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    let (socket, to) = (socket.as_raw_fd(), (&raw mut value).cast());
    // SAFETY: the kernel writes at most `length` bytes to `value`, which has them, and any bytes are a value of `T`.
    let result = unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, name, to, &raw mut length) };
    if result < 0 { Err(last_errno()) } else { Ok(value) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
