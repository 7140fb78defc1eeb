//! What rules ask of a connection, in a form that a global function can take.

use tcpops_common::conn::{Connection, Direction, Family, Origin};

use crate::kernel::socket::{Cgroup, Ends, Socket};

/// What rules ask of a connection.
///
/// The verifier checks a global function once, for whatever arguments it may be given, and all its callers take that as
/// proved; a static one it follows from each of them. It lets a global function have pointers to plain memory, whose size
/// it takes from the type, and no pointer to a socket (`btf_prepare_func_args` of the kernel's kernel/bpf/btf.c).
#[repr(C)]
pub(crate) struct Candidate {
    pub(crate) local_addr: [u8; 16],
    pub(crate) remote_addr: [u8; 16],
    /// The address of its `struct cgroup`; zero where it has none, or no rule asks.
    cgroup: u64,
    pub(crate) uid: u32,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) direction: Direction,
    pub(crate) family: Family,
    pub(crate) origin: Origin,
    pad: [u8; 5],
}

impl Candidate {
    /// A connection that has an entry.
    pub(crate) fn of(connection: &Connection) -> Self {
        Self {
            local_addr: connection.local_addr,
            remote_addr: connection.remote_addr,
            cgroup: 0,
            uid: connection.uid,
            local_port: connection.local_port,
            remote_port: connection.remote_port,
            direction: connection.direction,
            family: connection.family,
            origin: connection.origin,
            pad: [0; 5],
        }
    }

    /// A socket that has none yet.
    pub(crate) fn without_entry(socket: &Socket, ends: &Ends, direction: Direction, origin: Origin) -> Self {
        let (mut local_addr, mut remote_addr) = ([0; 16], [0; 16]);
        let family = ends.addresses(&mut local_addr, &mut remote_addr);
        Self {
            local_addr,
            remote_addr,
            cgroup: 0,
            uid: socket.uid(),
            local_port: ends.local_port,
            remote_port: ends.remote_port,
            direction,
            family,
            origin,
            pad: [0; 5],
        }
    }

    /// The argument of a global function.
    pub(crate) fn argument<'a>(pointer: *const Self) -> Option<&'a Self> {
        // SAFETY: the verifier lets callers pass null, or memory of this size that outlives the call.
        unsafe { pointer.as_ref() }
    }

    /// Notes the cgroup of the socket, since some rule asks for it.
    pub(crate) fn note_cgroup(&mut self, socket: &Socket) {
        self.cgroup = socket.cgroup().map_or(0, Cgroup::address);
    }

    /// The cgroup, if it was noted.
    pub(crate) fn cgroup(&self) -> Option<Cgroup> {
        Cgroup::at(self.cgroup)
    }
}
