//! The settings that the kernel programs and the agent share at run time.

use bytemuck::{Pod, Zeroable};

/// The one value of `SETTINGS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Settings {
    /// 1 while the agent polls the ring, every [`POLL_INTERVAL_MS`] where somebody reads; a kernel program that finds 0
    /// sets it and wakes the agent. So a busy host does not pay a wake-up for each event, and a quiet host has none.
    pub reader_awake: u32,
    /// 1 while a walk gives every socket back the options that its program had set (`tcpops detach`).
    pub restoring: u32,
    /// 1 while a walk takes in the sockets that have no entry.
    pub adopting: u32,
    /// 1 while a walk judges every connection anew by the rules in force.
    pub reevaluating: u32,
    /// 1 while `PROBES` has something for a walk to do.
    pub probing: u32,
    /// The bits of [`tell`].
    pub telling: u32,
    /// The cgroup that the sockops program is attached to: only sockets at or below it are taken in. Zero means all.
    pub cgroup_id: u64,
    /// The number by which the setsockopt program knows the agent: the value of an [`APPLY_OVERRIDE`]. Each agent draws
    /// its own. Zero for none.
    pub secret: u64,
    /// The cookies of the only sockets that a walk for overrides alone is about; all zero where it is about every socket. So
    /// that a change of one among many does not look each of them up.
    pub only: [u64; ONLY],
    /// Room for what comes later, zero.
    pub room: [u64; 8],
}

/// The most sockets that a walk can be told to be about.
pub const ONLY: usize = 4;

impl Settings {
    /// True if a walk does nothing with the socket that has this cookie.
    pub fn passes_over(&self, cookie: u64) -> bool {
        let is_for_all = self.adopting | self.restoring | self.reevaluating | self.probing != 0;
        self.only[0] != 0 && !is_for_all && !self.only.contains(&cookie)
    }
}

/// The bits of [`Settings::telling`]: what readers of events want of the kernel programs, beside the end of each
/// connection, which is always told.
pub mod tell {
    /// The agent is woken by the end of a connection; otherwise it reads of many ends at a time.
    pub const AT_ONCE: u32 = 1 << 0;
    /// What happens to connections that live is told.
    pub const ALL: u32 = 1 << 1;
    /// As [`AT_ONCE`], set by a kernel program that has left a connection out: the agent is to hear of that.
    pub const LEFT_OUT: u32 = 1 << 2;
}

/// The level of the options that the agent sets to reach a socket of which it has a descriptor. The kernel has no such level,
/// and answers ENOPROTOOPT.
pub const SOL_TCPOPS: i32 = i32::from_be_bytes(*b"tcpo");
/// The option by which the agent has the setsockopt program apply the socket's override, under the socket's lock. Its value is
/// [`Settings::secret`].
pub const APPLY_OVERRIDE: i32 = 1;

/// The name of the map that says which programs connect descriptors again.
pub const RECONNECTS: &str = "RECONNECTS";
/// The entries of `RECONNECTS`.
pub const RECONNECTS_ENTRIES: u32 = 256;

/// The entry of `RECONNECTS` for the sockets of a cgroup. Some cgroups share one.
pub const fn reconnects_entry(cgroup_id: u64) -> u32 {
    (cgroup_id % RECONNECTS_ENTRIES as u64) as u32
}

/// The interval at which the agent reads the ring while events come, milliseconds.
pub const POLL_INTERVAL_MS: u64 = 2;

/// The number of records in the ring with which the agent is woken though it polls: two milliseconds of 500,000 a
/// second.
pub const WAKE_BACKLOG: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_passes_over_others_only_where_it_is_for_overrides_alone() {
        let all = Settings::default();
        assert!(!all.passes_over(7));
        let only = Settings { only: [7, 8, 0, 0], ..all };
        assert!(!only.passes_over(7) && !only.passes_over(8) && only.passes_over(9));
        for other in [
            Settings { adopting: 1, ..only },
            Settings { restoring: 1, ..only },
            Settings { reevaluating: 1, ..only },
            Settings { probing: 1, ..only },
        ] {
            assert!(!other.passes_over(9));
        }
    }
}
