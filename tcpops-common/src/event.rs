//! What the kernel programs tell the agent through the ring buffer `EVENTS`.

use bytemuck::{CheckedBitPattern, NoUninit};

use crate::conn::ConnKey;
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

/// Set in [`Event::flags`] where the policy in force has a lifetime: the agent then looks the entry up.
pub const EVENT_HAS_LIFETIME: u8 = 1;

/// One record of the ring buffer.
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
}
