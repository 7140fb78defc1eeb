//! What the kernel programs tell the agent through the ring buffer `EVENTS`.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use crate::conn::{ConnKey, Connection};
use crate::state::TcpState;

/// What happened.
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

/// Set in [`Event::flags`] where the policy in force limits how long the connection may live: the agent then looks.
pub const EVENT_HAS_LIFETIME: u8 = 1;

/// One record of the ring buffer. It carries the whole entry, so that whoever reads it need not look for an entry that may
/// be gone by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(C)]
pub struct Event {
    /// When it happened.
    pub at_boot_ns: u64,
    /// The connection.
    pub key: ConnKey,
    /// What happened.
    pub kind: EventKind,
    /// The state before.
    pub old_state: TcpState,
    /// The state after.
    pub new_state: TcpState,
    /// [`EVENT_HAS_LIFETIME`].
    pub flags: u8,
    /// With [`EventKind::Closed`]: the errno that the socket held (`sk_err`): 0 after a normal close, ECONNRESET after a
    /// reset, ETIMEDOUT, ECONNREFUSED, or ECONNABORTED where somebody destroyed it.
    pub errno: u32,
    /// The entry after what happened.
    pub connection: Connection,
    /// With [`EventKind::Closed`], zero otherwise: how the connection fared.
    pub summary: Summary,
}

/// In [`Summary::sk_flags`] (`enum sock_flags` of the kernel's include/net/sock.h): the peer's FIN has come (`tcp_fin` of
/// net/ipv4/tcp_input.c).
pub const SOCK_DONE: u8 = 1 << 1;
/// In [`Summary::sk_flags`]: SO_KEEPALIVE was on, whoever set it.
pub const SOCK_KEEPOPEN: u8 = 1 << 3;

/// How a connection fared, as its socket counted (`struct tcp_sock` of the kernel's include/linux/tcp.h).
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
    /// `icsk_user_timeout`: TCP_USER_TIMEOUT, whoever set it, milliseconds; 0 is off.
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
