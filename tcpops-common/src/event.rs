//! The records of the ring buffer `EVENTS`, through which the kernel programs report to the agent.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use crate::conn::{ConnKey, Connection};
use crate::state::TcpState;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u8)]
pub enum EventKind {
    /// A connection or listener got its conid and its entry.
    Opened = 1,
    /// It went from one TCP state to another.
    Transition = 2,
    /// A rule was applied to it.
    Applied = 3,
    /// It ended; its entry is gone.
    Closed = 4,
}

/// The bits of [`Event::flags`]: for whom a record of a connection that lives is written.
pub mod needed {
    /// A limit of the connection begins that may be over before the agent looks at all connections next: it looks at
    /// this one now.
    pub const BY_LIMIT: u8 = 1 << 0;
    /// Somebody reads what happens to connections that live.
    pub const BY_READER: u8 = 1 << 1;
}

/// One record. It carries the whole entry, which may be gone by the time the record is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(C)]
pub struct Event {
    /// The time of what happened.
    pub at_boot_ns: u64,
    /// The connection.
    pub key: ConnKey,
    /// What happened.
    pub kind: EventKind,
    /// The state before.
    pub old_state: TcpState,
    /// The state after.
    pub new_state: TcpState,
    /// The bits of [`needed`].
    pub flags: u8,
    /// The errno that the socket held (`sk_err`) at [`EventKind::Closed`]: 0 after a normal close, ECONNRESET after a
    /// reset, ETIMEDOUT, ECONNREFUSED, or ECONNABORTED where somebody destroyed it.
    pub errno: u32,
    /// When the connection left ESTABLISHED, at [`EventKind::Closed`]; zero where it did not, or before it was known.
    pub left_boot_ns: u64,
    /// The entry after what happened.
    pub connection: Connection,
    /// The socket's own counts at [`EventKind::Closed`]; zero otherwise.
    pub summary: Summary,
}

/// The bit of [`Summary::sk_flags`] that says that the peer's FIN has come (`enum sock_flags` of the kernel's
/// include/net/sock.h, `tcp_fin` of net/ipv4/tcp_input.c).
pub const SOCK_DONE: u8 = 1 << 1;
/// The bit of [`Summary::sk_flags`] that says that SO_KEEPALIVE was on, no matter who set it.
pub const SOCK_KEEPOPEN: u8 = 1 << 3;

/// The counts of a socket at its end (`struct tcp_sock` of the kernel's include/linux/tcp.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Summary {
    /// `bytes_received`: bytes in order from the peer; its FIN counts as one.
    pub bytes_received: u64,
    /// `bytes_sent` less `bytes_retrans`: bytes of data sent, each counted once.
    pub bytes_sent: u64,
    /// `total_retrans`: segments sent again.
    pub total_retrans: u32,
    /// Milliseconds since the last byte of data was sent or received.
    pub idle_ms: u32,
    /// `icsk_retransmits`: how often the segment that waited had been sent again.
    pub retransmits: u8,
    /// `icsk_probes_out`: how many probes had no answer.
    pub probes: u8,
    /// `sk_flags`, the lowest byte of it: [`SOCK_DONE`], [`SOCK_KEEPOPEN`].
    pub sk_flags: u8,
    /// Explicit padding.
    pub pad: u8,
    /// `icsk_user_timeout`: TCP_USER_TIMEOUT, no matter who set it, milliseconds; 0 is off.
    pub user_timeout_ms: u32,
}

impl Summary {
    /// Nothing is known.
    pub const NONE: Self = Self {
        bytes_received: 0,
        bytes_sent: 0,
        total_retrans: 0,
        idle_ms: 0,
        retransmits: 0,
        probes: 0,
        sk_flags: 0,
        pad: 0,
        user_timeout_ms: 0,
    };
}
