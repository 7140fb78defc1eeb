//! The clock of all timestamps.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;

/// Nanoseconds of `CLOCK_BOOTTIME`.
pub(crate) fn now_boot_ns() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_ktime_get_boot_ns() }
}
