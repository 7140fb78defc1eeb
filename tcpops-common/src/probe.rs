//! Probes: a peer is asked, by a keepalive probe, whether it is still there.

use bytemuck::{CheckedBitPattern, NoUninit};

use crate::policy::SocketOptions;

/// The phase of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u8)]
pub enum ProbePhase {
    /// The next walk makes the kernel probe the peer.
    Ask = 1,
    /// The kernel probes the peer.
    Asked = 2,
    /// The next walk gives the socket back its options, and removes the entry.
    Restore = 3,
}

/// A probe under way: the value of `PROBES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(C)]
pub struct Probe {
    /// The phase.
    pub phase: ProbePhase,
    /// Explicit padding.
    pub pad: [u8; 3],
    /// The options that were in force when the kernel began to probe.
    pub saved: SocketOptions,
    /// The time at which the kernel began to probe; zero before.
    pub asked_boot_ns: u64,
}
