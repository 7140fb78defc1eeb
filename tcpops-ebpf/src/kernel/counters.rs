//! `COUNTERS`.

use tcpops_common::counters::Counter;

use crate::kernel::atomic;
use crate::kernel::maps::COUNTERS;

/// Adds one to `counter`.
pub(crate) fn bump(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // Atomic though the map is per CPU: a softirq may run this program inside the same program of its CPU.
        atomic::add_one(value);
    }
}
