//! The kernel version, the capabilities and the clock that the agent needs, checked before it touches anything.

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use crate::kernel::clock;
use crate::kernel::error::{KernelError, Result};

/// The oldest kernel on which the programs are known to work.
const OLDEST: (u32, u32) = (6, 1);

pub(crate) fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// True if orphans can be destroyed: before Linux 6.11 they were not freed then (`tcp_abort` of the kernel's
/// net/ipv4/tcp.c).
pub(crate) fn can_destroy_orphans() -> bool {
    version(&kernel_release()).is_some_and(|version| version >= (6, 11))
}

/// Checks them.
///
/// # Errors
/// `TooOld`, `Capabilities` or `UnknownClock`.
pub(crate) fn check() -> Result<()> {
    let release = kernel_release();
    if version(&release).is_some_and(|version| version < OLDEST) {
        return Err(KernelError::TooOld { found: release, expected: OLDEST });
    }
    let needed = [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::PERFMON, "CAP_PERFMON"),
    ];
    let held = capabilities(None).map_err(KernelError::syscall("capget", "this process"))?.effective;
    let missing: Vec<&str> =
        needed.into_iter().filter(|(capability, _)| !held.contains(*capability)).map(|(_, name)| name).collect();
    if missing.is_empty() {
        return clock::check();
    }
    Err(KernelError::Capabilities { missing: missing.join(", "), uid: geteuid().as_raw() })
}

/// True if a walk over the sockets meets each that is there throughout once, whatever comes and goes meanwhile: before
/// Linux 6.17 it may skip some ("bpf: tcp: Exactly-once socket iteration").
pub(crate) fn walks_are_exact() -> bool {
    version(&kernel_release()).is_some_and(|version| version >= (6, 17))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("6.1.0-44-amd64"), Some((6, 1)));
        assert_eq!(version("next"), None);
    }
}
